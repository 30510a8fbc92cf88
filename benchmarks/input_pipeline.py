"""Images a second of the input pipeline, on this machine, next to the plain way in the same run.

    python -m benchmarks.input_pipeline                 # the table, and docs/input_pipeline.json
    python -m benchmarks.input_pipeline --rounds=3 --images=56      # a quick look

Each line alternates its forms round by round, and shows the median round: microseconds an image on
one core, how much the rounds spread, and the ratio to the plain way. The files are JPEGs of
ImageNet's size made from scikit-learn's photographs; they lie in the system's file cache.
"""

import argparse
import io
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from absl import flags
from PIL import Image

from benchmarks import photographs, plain_pipeline
from shunted_jax.data.crops import CenterCrop, RandomResizedCrop
from shunted_jax.data.decoding import EncodedImage
from shunted_jax.data.loading import LoadForTraining
from shunted_jax.data.pipeline import train_batches
from shunted_jax.data.rand_augment import RandAugment
from shunted_jax.data.resizing import resize
from shunted_jax.data.sources import Source, open_source
from shunted_jax.data.transforms import EvalTransform, TrainTransform

SIZE = 224
BATCH = 64
TRAIN = TrainTransform(RandomResizedCrop(SIZE), 0.5, RandAugment())
CROP_AND_FLIP = TrainTransform(RandomResizedCrop(SIZE), 0.5)
EVALUATION = EvalTransform(CenterCrop(SIZE))


def main() -> None:
    """Measures everything, prints the table, writes the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.input_pipeline")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=140, help="a round of one core")
    parser.add_argument("--batches", type=int, default=24, help=f"of {BATCH}, for the workers")
    parser.add_argument("--json", type=Path, help="where to write the figures as well")
    arguments = parser.parse_args()
    flags.FLAGS.mark_as_parsed()  # Grain's workers read absl's
    cv2.setNumThreads(0)
    jpegs = photographs.make_jpegs(arguments.images)
    kilobytes = sum(map(len, jpegs)) / len(jpegs) / 1000
    print(f"{platform.machine()}, {os.cpu_count()} cores, JPEGs of {kilobytes:.0f} kB on average\n")

    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        photographs.make_tree(Path(folder), jpegs)
        source = open_source(folder, "train")
        for title, forms in _tables(jpegs, source).items():
            figures[title] = _one_core(title, forms, arguments.rounds)
        figures["workers"] = _workers(source, arguments.rounds, arguments.batches)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def _tables(jpegs: list[bytes], source: Source) -> dict[str, dict[str, Callable[[], int]]]:
    """Returns for each title the forms to compare, the plain one first; each returns its images."""
    pixels = [simplejpeg.decode_jpeg(jpeg) for jpeg in jpegs]
    images = [Image.fromarray(image) for image in pixels]
    boxes = [RandomResizedCrop(SIZE).draw_box(*p.shape[:2], _rng(i)) for i, p in enumerate(pixels)]
    crops = [p[t : t + h, x : x + w] for p, (t, x, h, w) in zip(pixels, boxes, strict=True)]
    small = [resize(p, box, SIZE) for p, box in zip(pixels, boxes, strict=True)]
    small_images = [Image.fromarray(image) for image in small]

    def each(function: Callable, *columns: list) -> Callable[[], int]:
        def run() -> int:
            for row in zip(*columns, strict=True):
                function(*row)
            return len(columns[0])

        return run

    numbers = list(range(len(jpegs)))
    load = LoadForTraining(source, TRAIN)

    def loaded_in_batches() -> int:
        order = np.random.default_rng(0).permutation(len(source))
        rows = [load(int(index), _rng(i)) for i, index in enumerate(order)]
        for start in range(0, len(rows), BATCH):
            np.stack([row["image"] for row in rows[start : start + BATCH]])
        return len(rows)

    def through_grain() -> int:
        batches = train_batches(source, TRAIN, batch_size=BATCH, seed=0, num_threads=1)
        count = -(-len(source) // BATCH)
        for _ in range(count):
            next(batches)
        batches.close()
        return count * BATCH

    return {
        "decode the whole image": {
            "Pillow": each(lambda j: np.asarray(plain_pipeline.decode(j)), jpegs),
            "OpenCV": each(
                lambda j: cv2.imdecode(np.frombuffer(j, np.uint8), cv2.IMREAD_COLOR_RGB), jpegs
            ),
            "simplejpeg": each(lambda j: EncodedImage(j).decode(), jpegs),
        },
        "decode what the crop needs": {
            "Pillow, whole image": each(lambda j: np.asarray(plain_pipeline.decode(j)), jpegs),
            "Pillow, draft mode": each(_draft, jpegs, boxes),
            "simplejpeg, reduced": each(_reduced, jpegs, boxes),
        },
        "resize the crop": {
            "Pillow": each(
                lambda im, b: np.asarray(
                    im.crop((b[1], b[0], b[1] + b[3], b[0] + b[2])).resize(
                        (SIZE, SIZE), Image.Resampling.BICUBIC
                    )
                ),
                images,
                boxes,
            ),
            "OpenCV, no antialiasing": each(
                lambda c: cv2.resize(c, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC), crops
            ),
            "cykooz.resizer": each(lambda p, b: resize(p, b, SIZE), pixels, boxes),
        },
        "RandAugment": {
            "Pillow": each(
                lambda im, i: np.asarray(plain_pipeline.rand_augment(im, _rng(i))),
                small_images,
                numbers,
            ),
            "ours": each(lambda a, i: RandAugment()(a, _rng(i)), small, numbers),
        },
        "normalise and erase": {
            "on the host": each(
                lambda im, i: plain_pipeline.normalize_and_erase(im, _rng(i)), small_images, numbers
            ),
        },
        "crop and flip, whole": {
            "plain": each(lambda j, i: _plain_crop_and_flip(j, _rng(i)), jpegs, numbers),
            "ours": each(lambda j, i: CROP_AND_FLIP(j, _rng(i)), jpegs, numbers),
        },
        "full recipe, whole": {
            "plain": each(lambda j, i: plain_pipeline.train(j, _rng(i)), jpegs, numbers),
            "ours": each(lambda j, i: TRAIN(j, _rng(i)), jpegs, numbers),
        },
        "evaluation, whole": {
            "plain": each(plain_pipeline.evaluate, jpegs),
            "ours": each(EVALUATION, jpegs),
        },
        "full recipe from files, in batches": {
            "a bare loop": loaded_in_batches,
            "through Grain, one thread": through_grain,
        },
    }


def _rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def _draft(jpeg: bytes, box: tuple[int, int, int, int]) -> np.ndarray:
    image = Image.open(io.BytesIO(jpeg))
    scale = min(box[2:]) / SIZE
    image.draft("RGB", (int(image.width / scale), int(image.height / scale)))
    return np.asarray(image.convert("RGB"))


def _reduced(jpeg: bytes, box: tuple[int, int, int, int]) -> np.ndarray:
    reduce = max(r for r in (1, 2, 4, 8) if r == 1 or min(box[2:]) >= 2 * r * SIZE)
    return EncodedImage(jpeg).decode(reduce)


def _plain_crop_and_flip(jpeg: bytes, rng: np.random.Generator) -> np.ndarray:
    image = plain_pipeline.crop(plain_pipeline.decode(jpeg), rng)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(image)


def _one_core(title: str, forms: dict[str, Callable[[], int]], rounds: int) -> dict:
    """Prints and returns the median microseconds an image of each form, with their spread."""
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        times = {name: [] for name in forms}
        for _ in range(rounds + 1):
            for name, run in forms.items():
                start = time.perf_counter()
                images = run()
                times[name].append((time.perf_counter() - start) / images)
    finally:
        os.sched_setaffinity(0, everywhere)
    print(title)
    figures = {}
    first = None
    for name, of_form in times.items():
        low, median, high = np.percentile(np.array(of_form[1:]) * 1e6, [25, 50, 75])
        first = first or median
        figures[name] = {"microseconds": median, "quartiles": [low, high], "ratio": first / median}
        print(
            f"  {name:28} {median:7.0f} us  ({low:.0f}-{high:.0f})  {1e6 / median:7.0f} images/s"
            f"  {first / median:5.2f} x"
        )
    print()
    return figures


def _workers(source: Source, rounds: int, batches: int) -> dict:
    """Prints and returns images a second with 1 and 2 worker processes, alternating."""
    rates = {1: [], 2: []}
    for _ in range(max(3, rounds // 3)):
        for workers, of_count in rates.items():
            of_count.append(_rate(source, workers, batches))
    print(f"full recipe from files, batches of {BATCH}, worker processes")
    figures = {}
    for workers, of_count in rates.items():
        low, median, high = np.percentile(of_count, [25, 50, 75])
        figures[workers] = {"images_per_second": median, "quartiles": [low, high]}
        ratio = median / np.median(rates[1])
        print(f"  {workers} {median:7.0f} images/s  ({low:.0f}-{high:.0f})  {ratio:5.2f} x")
    return figures


def _rate(source: Source, workers: int, count: int) -> float:
    batches = train_batches(source, TRAIN, batch_size=BATCH, seed=0, num_workers=workers)
    for _ in range(4 * workers):  # started, and what was prepared meanwhile is used up
        next(batches)
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    rate = count * BATCH / (time.perf_counter() - start)
    batches.close()
    return rate


if __name__ == "__main__":
    main()
