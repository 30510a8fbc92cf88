"""What the README says of numbers and names is what the code says."""

import re
from pathlib import Path

from tests.models.test_shunted import GMACS, PARAMETERS

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_table_of_models_is_exact():
    rows = re.findall(r"^\| `(shunted_\w)` \| ([\d,]+) \| ([\d.]+) \|", README, re.MULTILINE)
    assert [name for name, _, _ in rows] == ["shunted_t", "shunted_s", "shunted_b"]
    for name, parameters, gmacs in rows:
        assert parameters == f"{PARAMETERS[name]:,}"
        assert gmacs == f"{GMACS[name]:.2f}"


def test_api_example_runs(tiny_variant):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert "(8, 224, 224, 3)" in code
    assert '"shunted_t", num_classes' in code
    small = code.replace("(8, 224, 224, 3)", "(2, 32, 32, 3)")
    small = small.replace('"shunted_t", num_classes', f'"{tiny_variant}", num_classes')
    names = {}
    exec(small, names)
    assert names["logits"].shape == (2, 10)
    assert [feature_map.shape for feature_map in names["maps"]] == [(2, 8, 8, 8), (2, 4, 4, 16)]


def test_files_that_are_named_exist():
    root = Path(__file__).parent.parent
    for name in re.findall(r"\b(?:configs|docs|tests)/[\w./]+", README):
        assert (root / name.rstrip(".")).exists(), name
