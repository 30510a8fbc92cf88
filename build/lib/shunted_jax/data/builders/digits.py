"""The 1,797 handwritten digits that scikit-learn carries, as a tensorflow-datasets data set.

Written by 43 people (Alpaydin and Kaynak, 1998), scanned, and averaged down to 8 x 8 pixels of 17
grey levels. They need no download, so that a first run trains on real images anywhere.
"""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

_TEST_EVERY = 5  # images 0, 5, 10, ... are the test split: 360 of them, and 1,437 remain


class Digits(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits, 8 x 8 pixels, ten classes."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            citation=(
                "@misc{alpaydin1998digits, title={Optical Recognition of Handwritten Digits}, "
                "author={E. Alpaydin and C. Kaynak}, year={1998}, publisher={UCI Machine Learning "
                "Repository}}"
            ),
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        return {"train": self._generate_examples(False), "test": self._generate_examples(True)}

    def _generate_examples(self, test: bool):
        from sklearn.datasets import load_digits  # only preparing needs scikit-learn

        digits = load_digits()
        for index, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            if (index % _TEST_EVERY == 0) == test:
                yield index, {"image": _png(pixels), "label": int(label)}


def _png(pixels: np.ndarray) -> bytes:
    # PNG bytes, not an array: tensorflow-datasets would encode an array with TensorFlow.
    grey = np.round(pixels * (255 / 16)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, format="png")
    return buffer.getvalue()
