"""Images a second of the input pipeline, on this machine, next to the plain way in the same run.

    python -m benchmarks.input --json=docs/input_pipeline.json
    python -m benchmarks.input --rounds=3 --images=56      # a quick look

The forms of each table alternate, round by round. Shown are the median round's microseconds an
image, its quartiles, images a second, and the speed relative to the table's first form. The files
are JPEGs of ImageNet's size made from scikit-learn's photographs; they lie in the system's file
cache.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from absl import flags
from PIL import Image

from benchmarks.input import photographs, plain_pipeline
from shunted_jax.config import AugmentConfig, Config, DataConfig
from shunted_jax.data.crops import CenterCrop, RandomResizedCrop
from shunted_jax.data.decoding import EncodedImage
from shunted_jax.data.loading import LoadForTraining
from shunted_jax.data.pipeline import train_batches
from shunted_jax.data.processes import keep_freed_memory
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
    parser = argparse.ArgumentParser(prog="python -m benchmarks.input")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=140, help="a round of one core")
    parser.add_argument("--batches", type=int, default=24, help=f"of {BATCH}, for the workers")
    parser.add_argument("--json", type=Path, help="where to write the figures as well")
    arguments = parser.parse_args()
    flags.FLAGS.mark_as_parsed()  # Grain's workers read absl's
    cv2.setNumThreads(0)
    keep_freed_memory()  # for both sides, as in the workers
    jpegs = photographs.make_jpegs(arguments.images)
    kilobytes = sum(map(len, jpegs)) / len(jpegs) / 1000
    print(f"{platform.machine()}, {os.cpu_count()} cores, JPEGs of {kilobytes:.0f} kB on average\n")

    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        photographs.make_tree(Path(folder), jpegs)
        source = open_source(folder, "train")
        for title, forms in _tables(jpegs).items():
            figures[title] = _one_core(title, forms, arguments.rounds)
        figures["resizing differs by"] = _resizing_difference(jpegs)
        figures["Grain"] = _grain(source, arguments.rounds, arguments.batches)
        figures["workers"] = _workers(source, arguments.rounds, arguments.batches)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def _tables(jpegs: list[bytes]) -> dict[str, dict[str, Callable[[], int]]]:
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
            "Pillow": each(_pillow_resize, images, boxes),
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
    }


def _rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def _draft(jpeg: bytes, box: tuple[int, int, int, int]) -> np.ndarray:
    image = Image.open(io.BytesIO(jpeg))
    scale = min(box[2:]) / SIZE
    image.draft("RGB", (int(image.width / scale), int(image.height / scale)))
    return np.asarray(image.convert("RGB"))


def _reduced(jpeg: bytes, box: tuple[int, int, int, int]) -> np.ndarray:
    return EncodedImage(jpeg).decode(RandomResizedCrop(SIZE).reduction(box))


def _pillow_resize(image: Image.Image, box: tuple[int, int, int, int]) -> np.ndarray:
    top, left, height, width = box
    crop = image.crop((left, top, left + width, top + height))
    return np.asarray(crop.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _plain_crop_and_flip(jpeg: bytes, rng: np.random.Generator) -> np.ndarray:
    image = plain_pipeline.crop(plain_pipeline.decode(jpeg), rng)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(image)


def _resizing_difference(jpegs: list[bytes]) -> float:
    """Prints and returns by how many grey levels training's resizing differs from Pillow's."""
    differences = []
    for number, jpeg in enumerate(jpegs):
        pixels = simplejpeg.decode_jpeg(jpeg)
        box = RandomResizedCrop(SIZE).draw_box(*pixels.shape[:2], _rng(number))
        ours = resize(pixels, box, SIZE).astype(int)
        differences.append(np.abs(ours - _pillow_resize(Image.fromarray(pixels), box)).mean())
    print(f"training's resizing is {np.mean(differences):.3f} levels from Pillow's on average\n")
    return float(np.mean(differences))


@contextlib.contextmanager
def _on_one_core() -> Iterator[None]:
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, everywhere)


def _one_core(title: str, forms: dict[str, Callable[[], int]], rounds: int) -> dict:
    """Measures forms that return how many images they took; the first round only warms up."""
    seconds = {name: [] for name in forms}
    with _on_one_core():
        for _ in range(rounds + 1):
            for name, run in forms.items():
                start = time.perf_counter()
                images = run()
                seconds[name].append((time.perf_counter() - start) / images)
    return _report(title, {name: of_form[1:] for name, of_form in seconds.items()})


def _grain(source: Source, rounds: int, count: int) -> dict:
    """Measures what Grain adds to the function that it calls."""
    load = LoadForTraining(source, TRAIN)
    order = np.random.default_rng(0).integers(0, len(source), (count, BATCH)).tolist()

    def bare() -> float:
        start = time.perf_counter()
        for step in order:
            rows = [load(index, _rng(index)) for index in step]
            {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        return (time.perf_counter() - start) / (count * BATCH)

    def through_grain() -> float:
        seconds = _seconds(source, count, num_threads=1)
        time.sleep(1)  # until it no longer reads ahead
        return seconds

    seconds = {"a bare loop": [], "through Grain, one thread": []}
    with _on_one_core():
        for _ in range(rounds):
            seconds["a bare loop"].append(bare())
            seconds["through Grain, one thread"].append(through_grain())
    return _report(f"full recipe from files, batches of {BATCH}, one core", seconds)


def _workers(source: Source, rounds: int, count: int) -> dict:
    """Measures one and two worker processes, where they may use all cores."""
    seconds = {"1 worker": [], "2 workers": []}
    for _ in range(rounds):
        for workers, of_count in enumerate(seconds.values(), start=1):
            of_count.append(_seconds(source, count, num_workers=workers, num_threads=1))
    return _report(f"full recipe from files, batches of {BATCH}, worker processes", seconds)


def _seconds(source: Source, count: int, **settings: int) -> float:
    """Returns the seconds an image takes once workers have started and buffers are full.

    The recipe is that of `TRAIN`; `settings` are fields of `DataConfig`.
    """
    config = Config(
        data=DataConfig(image_size=SIZE, **settings),
        augment=AugmentConfig(rand_augment_layers=TRAIN.rand_augment.num_layers),
        batch_size=BATCH,
    )
    batches = train_batches(source, config)
    for _ in range(8):
        next(batches)
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    seconds = time.perf_counter() - start
    batches.close()
    return seconds / (count * BATCH)


def _report(title: str, seconds: dict[str, list[float]]) -> dict:
    """Prints and returns each form's median and quartiles, and its ratio to the first one's."""
    print(title)
    figures, first = {}, None
    for name, of_form in seconds.items():
        low, median, high = np.percentile(np.array(of_form) * 1e6, [25, 50, 75])
        first = first or median
        figures[name] = {"microseconds": median, "quartiles": [low, high], "ratio": first / median}
        print(
            f"  {name:26} {median:6.0f} us  ({low:.0f}-{high:.0f})  {1e6 / median:6.0f} images/s"
            f"  {first / median:5.2f} x"
        )
    print()
    return figures


if __name__ == "__main__":
    main()
