"""Makes small archives in the layout of ILSVRC2012's own."""

import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

TRAIN, VALIDATION = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
CMYK, PNG = "n01739381_1309.JPEG", "n02105855_2933.JPEG"  # as the real archive has them


def synsets() -> list[str]:
    """Returns ImageNet's 1,000 classes, in the order of the labels."""
    return tfds.core.tfds_path("datasets/imagenet2012/labels.txt").read_text().split()


def validation_synsets() -> list[str]:
    """Returns the class of each image of the validation set, by its number less one."""
    return tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt").read_text().split()


def make_imagenet_archives(
    folder: str | os.PathLike,
    *,
    classes: Iterable[str] = ("n01440764", "n02105855", "n01739381"),
    train_per_class: int = 4,
    val: int | Iterable[int] = 5,
    size: int = 32,
) -> Path:
    """Writes ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar.

    Among the images are the odd ones of the real archives: a grey JPEG in each class and, where
    `classes` has theirs, a CMYK JPEG and a PNG whose names tensorflow-datasets has on its lists.

    Args:
        folder: where to write them; made if it is not there.
        classes: WordNet numbers; each makes an archive within the training set's.
        train_per_class: images in each; the odd ones are among them.
        val: how many validation images, from the first on, or the numbers of those to have.
        size: of the longer side, in pixels.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / TRAIN, "w") as train:
        for synset in classes:
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as inner:
                for number in range(train_per_class):
                    _add(inner, *_train_image(synset, number, train_per_class, size))
            _add(train, f"{synset}.tar", buffer.getvalue())
    with tarfile.open(folder / VALIDATION, "w") as validation:
        for number in range(1, val + 1) if isinstance(val, int) else val:
            _add(validation, f"ILSVRC2012_val_{number:08d}.JPEG", jpeg(number, size))
    return folder


def jpeg(seed: int, size: int, mode: str = "RGB", image_format: str = "JPEG") -> bytes:
    """Returns an encoded image of smooth colours; another seed gives another image."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    image = Image.fromarray(pixels).resize((size, size - size // 4), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, image_format)
    return buffer.getvalue()


def _train_image(synset: str, number: int, count: int, size: int) -> tuple[str, bytes]:
    seed = 1000 * int(synset[1:]) + number
    if number == 0:
        return f"{synset}_{number}.JPEG", jpeg(seed, size, "L")
    if number == count - 1 and CMYK.startswith(synset):
        return CMYK, jpeg(seed, size, "CMYK")
    if number == count - 1 and PNG.startswith(synset):
        return PNG, jpeg(seed, size, "RGB", "PNG")
    return f"{synset}_{number * 37}.JPEG", jpeg(seed, size)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
