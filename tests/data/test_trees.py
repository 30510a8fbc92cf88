"""Trees as people have them: what counts as an image, a class, a split, and what is said of it."""

import os

import numpy as np
import pytest
from PIL import Image

from shunted_jax.config import DataConfig
from shunted_jax.data.decoding import EncodedImage
from shunted_jax.data.scanning import EXTENSIONS
from shunted_jax.data.sources import open_source, open_split
from shunted_jax.errors import UserError

FORMATS = Image.registered_extensions() | {".mpo": "MPO"}


def touch(folder, *names):
    """Writes files that are images by their names alone."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))
    return folder


def names(source):
    return {
        source.examples[i]["file_name"]: source.examples[i]["label"] for i in range(len(source))
    }


def refusal(folder, split="train", field="train_split", **options):
    with pytest.raises(UserError) as caught:
        open_split(DataConfig(dataset=str(folder), **{field: split}, **options), field)
    return str(caught.value)


def test_what_pillow_decodes_is_taken_whatever_its_extension(tmp_path):
    inside = tmp_path / "train" / "a"
    inside.mkdir(parents=True)
    for number, extension in enumerate(EXTENSIONS):
        mode = "1" if extension == ".pbm" else "RGB"
        name = f"{number}{extension.upper() if number % 2 else extension}"
        image = Image.fromarray(np.full((16, 24, 3), 200, np.uint8)).convert(mode)
        image.save(inside / name, format=FORMATS[extension])
    source = open_source(str(tmp_path), "train")
    assert len(source) == len(EXTENSIONS) == 27
    for example in source.examples:
        assert EncodedImage(example["image"]).decode().shape == (16, 24, 3), example["file_name"]
    assert source.remarks == ()


def test_what_is_left_out_is_counted(tmp_path):
    touch(tmp_path, *(f"train/cat/{n}.jpg" for n in range(3)), "train/dog/x.JFIF")
    touch(tmp_path, "train/cat/._0.jpg", "train/dog/.DS_Store", "train/dog/Thumbs.db")
    touch(tmp_path, *(f"train/cat/{n}.txt" for n in range(10)), "train/dog/README")
    touch(tmp_path, "train/stray.jpg", "train/.hidden", "train/cat/@eaDir/0.jpg/thumb.jpg")
    strange = ["__MACOSX", ".ipynb_checkpoints", "@eaDir", "lost+found", "$RECYCLE.BIN"]
    touch(tmp_path, *(f"train/{folder}/x.jpg" for folder in strange))
    source = open_source(str(tmp_path), "train")
    assert source.class_names == ("cat", "dog")
    assert source.in_a_line() == (
        f"{tmp_path}, train: 4 images, 2 classes; left out: 16 files (10 .txt, 3 hidden, "
        "1 in no class's folder, 1 .db, 1 without an extension) and the folders $RECYCLE.BIN, "
        ".ipynb_checkpoints, @eaDir, __MACOSX, lost+found"
    )


def test_subfolders_of_a_class_hold_its_images(tmp_path):
    touch(
        tmp_path, "train/cat/1/a.jpg", "train/cat/1/2/b.png", "train/cat/c.jpg", "train/dog/d.jpg"
    )
    os.symlink("..", tmp_path / "train" / "cat" / "1" / "back")  # to its class
    os.symlink("../..", tmp_path / "train" / "dog" / "back")  # to the whole tree
    (tmp_path / "more").mkdir()
    touch(tmp_path / "more", "e.jpg")
    os.symlink("../../more", tmp_path / "train" / "dog" / "more")
    source = open_source(str(tmp_path), "train")
    assert names(source) == {
        "train/cat/1/a.jpg": 0,
        "train/cat/1/2/b.png": 0,
        "train/cat/c.jpg": 0,
        "train/dog/d.jpg": 1,
        "train/dog/more/e.jpg": 1,
    }
    assert source.remarks == (
        "3 lie in subfolders of their classes",
        "left out: the folder back",
    )


def test_empty_classes_are_refused_or_kept_as_asked(tmp_path):
    touch(tmp_path, "train/cat/1.jpg", *(f"train/cow/{n}.heic" for n in range(3)))
    touch(tmp_path, "train/cow/notes.txt")
    (tmp_path / "train" / "owl" / "x" / "y").mkdir(parents=True)
    (tmp_path / "train" / "pig").mkdir()
    said = refusal(tmp_path)
    assert said.startswith(
        f"3 of the 4 classes of {tmp_path}/train hold no image: 'cow' (3 .heic, 1 .txt), 'owl' "
        "(only subfolders), 'pig' (nothing); "
    )
    assert said.endswith("--config.data.allow_empty_classes=True")
    source = open_source(str(tmp_path), "train", None, DataConfig(allow_empty_classes=True))
    assert source.class_names == ("cat", "cow", "owl", "pig")
    assert source.remarks[-1] == "no image of 'cow', 'owl', 'pig'"
    # Without a folder, a class may be missing where nothing is trained.
    touch(tmp_path, "val/cat/2.jpg")
    assert open_source(str(tmp_path), "val").remarks == ("no image of 'cow', 'owl', 'pig'",)


def test_a_folder_of_classes_is_one_split(tmp_path):
    touch(tmp_path, *(f"rose/{n}.jpg" for n in range(20)), *(f"tulip/{n}.jpg" for n in range(20)))
    touch(tmp_path, "LICENSE", "tulip/dutch/x.jpg")
    whole = open_source(str(tmp_path), "train")
    assert (len(whole), whole.class_names) == (41, ("rose", "tulip"))
    first, rest = (open_source(str(tmp_path), f"train[{part}]") for part in (":75%", "75%:"))
    assert names(first) | names(rest) == names(whole) == names(open_source(str(tmp_path), "all"))
    assert len(first) + len(rest) == 41
    assert set(names(rest).values()) == {0, 1}
    said = refusal(tmp_path, "test", "eval_split")
    assert "with the classes 'rose', 'tulip', has no split 'test'" in said
    assert "'--config.data.train_split=train[:90%]' '--config.data.eval_split=train[90%:]'" in said


NOT_CLEAR = [
    ("train[:9]", "Train/a/1.jpg val/a/1.jpg", "'val': --config.data.train_split='Train[:9]'"),
    ("train", "training/a/1.jpg", "it has 'training': --config.data.train_split=training"),
    ("test", "train/a/1.jpg Validation/a/1.jpg", "--config.data.train_split=Validation"),
    ("train", "one/a/1.jpg two/a/1.jpg", "'one', 'two': --config.data.train_split names one"),
    ("val", "train/a/1.jpg", "all of it is 'train', of which you take parts"),
    # The folder of a zip around it all; a data set's version below its name.
    ("train[:5]", "x/train/a/1.jpg", "FOLDER/x is a data set: take --config.data.dataset=FOLDER/x"),
    ("train", "1.0.0/dataset_info.json", "take --config.data.dataset=FOLDER/1.0.0"),
    # Images in folders that may be splits or classes.
    ("train", "train/1.jpg car/2.jpg", "FOLDER/train holds no images in folders of classes, but 1"),
    ("train", "test/1.jpg car/2.jpg", "images in 'test' and in what may be classes"),
    ("train", "cat/1.jpg dog/pug/1.jpg", "images in 'cat' and folders in 'dog': lay"),
    ("train", "train/pets/cat/1.jpg train/pets/dog/2.jpg", "single class, 'pets', and all images"),
    # A split without classes, or with stray images, beside one that has them.
    ("test", "train/test/1.jpg val/test/1.jpg", "'val': --config.data.train_split=val"),
    ("train", "training/a/1.jpg test/1.jpg", "--config.data.train_split=training"),
    ("val", "train/a/1.jpg train/1.jpg test/1.jpg", "--config.data.train_split=test"),
    ("train", "train/x.caf\udce9", "but 1 file (1 in no class's folder)"),
    ("train", "train/a/x.caf\udce9", "holds no images in folders of classes, but 1 file (1 '.caf"),
    ("train", "1.jpg", "has neither folders, with images as SPLIT/CLASS/FILE or CLASS/FILE"),
]


@pytest.mark.parametrize(("split", "files", "said"), NOT_CLEAR)
def test_layouts_that_are_not_clear_are_refused_with_a_remedy(tmp_path, split, files, said):
    touch(tmp_path, *files.split())
    assert said.replace("FOLDER", str(tmp_path)) in refusal(tmp_path, split)


def test_class_names_are_as_they_look(tmp_path):
    touch(tmp_path, "train/caf\u00e9/1.jpg", "train/tea/1.jpg", "val/cafe\u0301/1.jpg")
    train, val = (open_source(str(tmp_path), split) for split in ("train", "val"))
    assert train.class_names == val.class_names == ("caf\u00e9", "tea")
    assert names(val) == {"val/cafe\u0301/1.jpg": 0}


def test_training_folder_by_another_name_numbers_the_classes(tmp_path):
    touch(tmp_path, "Training/a/1.jpg", "Training/b/1.jpg", "val/b/1.jpg")
    assert names(open_source(str(tmp_path), "val")) == {"val/b/1.jpg": 1}
