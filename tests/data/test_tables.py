"""Tables of labels: which rows become which examples, and what is wrong with the others."""

import pytest

from shunted_jax.config import DataConfig
from shunted_jax.data.sources import open_split
from shunted_jax.errors import UserError
from tests.data.test_trees import names, touch


@pytest.fixture
def table(tmp_path):
    """Returns a function that writes a table beside five images, and opens a split of it."""
    touch(tmp_path, "a/1.jpg", "a/2.png", "a/3.jpg", "b/4.jpg", "b/4.png", "b/5,x.jpg")

    def opened(text, split="train", name="labels.csv", encoding="utf-8", **fields):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        fields = {"dataset": str(path), "eval_split": split} | fields
        return open_split(DataConfig(**fields), "eval_split")

    return opened


TWO = {"a/1.jpg": 0, "a/2.png": 1}


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("image,label\na/1.jpg,cat\na/2.png,dog\n", "labels.csv", {}),
        # As Excel saves it: a mark, CRLF, semicolons, an empty line at the end.
        ("\ufefflabel;image\r\ncat;a/1.jpg\r\ndog;a/2.png\r\n;\r\n\r\n", "labels.csv", {}),
        ("image\tlabel\na/1.jpg\tcat\n./a/2.png\tdog", "LABELS.TSV", {}),
        # Competitions: other names, a folder of images, no extensions.
        ("id,x,breed\n1,,cat\n2,,dog\n", "y.csv", {"image_column": "id", "label_column": "breed"}),
        ('"image" , "label"\n"a/1.jpg"," cat "\na/2.png,dog\n', "labels.csv", {}),
    ],
    ids=["plain", "Excel", "tabs", "Kaggle", "quotes"],
)
def test_a_row_is_an_image(table, tmp_path, text, name, options):
    kaggle = "image_column" in options
    options |= {"image_dir": str(tmp_path / "a")} if kaggle else {}
    source = table(text.replace('" , "', '","'), name=name, **options)
    prefix = "" if kaggle else "a/"
    assert names(source) == {prefix + "1.jpg": 0, prefix + "2.png": 1}
    assert source.class_names == ("cat", "dog")
    assert source.examples[0]["image"] in (b"a/1.jpg", b"a/2.png")


def test_splits_are_a_columns_values_and_share_their_classes(table):
    text = "image,label,split\na/1.jpg,10,train\na/2.png,9,train\na/3,-1,train\nb/4.jpg,9,val\n"
    train, val = table(text), table(text, "val")
    assert train.class_names == val.class_names == ("-1", "9", "10")  # as numbers
    assert names(train) == {"a/1.jpg": 2, "a/2.png": 1, "a/3.jpg": 0}
    assert names(val) == {"b/4.jpg": 1}
    assert val.remarks == ("no image of '-1', '10'",)
    with pytest.raises(UserError, match=r"no split 'test'.*'train', 'val': --config.data.eval_spl"):
        table(text, "test")
    # Labels that nobody knows, of images that are not here, are nobody's business elsewhere.
    assert len(table(text + "c/9.jpg,,test\n", "val")) == 1


def test_parts_and_order_are_those_of_a_tree(table, tmp_path):
    touch(tmp_path / "tree", *(f"{c}/{n}.jpg" for c in "xyz" for n in range(20)))
    rows = [f"tree/{c}/{n}.jpg,{c}" for n in range(20) for c in "zyx"]
    one, other = ("\n".join(["image,label", *order]) for order in (rows, reversed(rows)))
    parts = [table(one, f"train[{part}]") for part in (":70%", "70%:")]
    assert list(names(parts[0])) + list(names(parts[1])) == list(names(table(other)))
    assert set(names(parts[1]).values()) == {0, 1, 2}


NOT_CLEAR = {
    "": "names the columns nothing, and not 'image' and 'label'",
    "id,breed\n1,x": "columns 'id', 'breed', and not 'image' and 'label': say which they are, as "
    "in --config.data.image_column=id --config.data.label_column=breed",
    "image,label\n\n": "no rows below its first line",
    "image,label\na/1.jpg,x\nb/5,x.jpg,y": "line 3 of TABLE has 3 values, and the first 2: values "
    "that hold a ','",
    "image,label\na/1.jpg,x\na/2.png, \na/3,": "line 3 of TABLE has no label for 'a/2.png', nor "
    "have 1 more",
    "image,label,split\na/1.jpg,x,": "line 2 of TABLE names no image or no split",
    "image,label\na/1.jpg,x\na/7.jpg,y\nq/8.jpg,y": "2 of 3 images that TABLE names are not in "
    "FOLDER, such as 'a/7.jpg' (line 3)",
    "image,label\n1.jpg,x": "(line 2): take their rows away, or say where they are: "
    "--config.data.image_dir=FOLDER/a",
    "image,label\nb/4,x": "line 2 of TABLE names 'b/4', which could be 4.jpg or 4.png: write",
    "image,label\na/1.jpg,x\n./a/1.jpg,y": "names 'a/1.jpg' in line 2 with the label 'x', and in "
    "line 3 with 'y'",
    "image,label,split\na/1.jpg,x,train\na/1.jpg,x,val": "with the split 'train', and in line 3 "
    "with 'val'",
    "image,label\na/1.jpg,x\na/1,x": "lines 2 and 3 of TABLE name the same file, a/1.jpg",
    "image,label,split\na/1.jpg,x,train\na/2.png,y,val": "line 3 of TABLE has the label 'y', which "
    "no row of the split 'train' has",
    f'image,label\n"{200_000 * "x"}",y': "cannot be read: field larger than field limit",
}


@pytest.mark.parametrize("number", range(len(NOT_CLEAR)))
def test_rows_that_are_not_clear_are_refused_by_their_lines(table, tmp_path, number):
    text, said = list(NOT_CLEAR.items())[number]
    with pytest.raises(UserError) as caught:
        table(text)
    said = said.replace("TABLE", str(tmp_path / "labels.csv")).replace("FOLDER", str(tmp_path))
    assert said in str(caught.value)


def test_text_that_is_not_utf_8_is_refused(table):
    with pytest.raises(UserError, match="0xe9.*a table is text in UTF-8"):
        table("image,label\na/1.jpg,caf\xe9\n", encoding="latin-1")
    with pytest.raises(UserError, match="config.data.dataset is 'nonesuch.csv', and there is no"):
        open_split(DataConfig(dataset="./nonesuch.csv"), "train_split")


def test_a_folder_of_images_that_is_not_there_is_named(table):
    with pytest.raises(UserError, match="config.data.image_dir is './nonesuch', and there is no"):
        table("image,label\na/1.jpg,x\n", image_dir="./nonesuch")


def test_rows_that_repeat_each_other_count_once(table):
    source = table("image,label\na/1.jpg,x\na/2.png,y\na/1.jpg,x\n")
    assert names(source) == TWO
    assert source.remarks == ("left out: 1 rows that say the same as another",)


def test_labels_of_one_split_may_be_allowed_to_another(table):
    text = "image,label,split\na/1.jpg,x,train\na/2.png,y,val\n"
    source = table(text, "val", allow_empty_classes=True)
    assert (names(source), source.class_names) == ({"a/2.png": 1}, ("x", "y"))
