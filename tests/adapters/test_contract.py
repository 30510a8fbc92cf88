"""Each adapter stands alone, and each is in the table with the version that the suite installs."""

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

from tests.adapters.contract import seen_with

REPOSITORY = Path(__file__).parents[2]
ADAPTERS = sorted(
    path
    for path in (REPOSITORY / "shunted_jax" / "adapters").glob("*.py")
    if path.stem != "__init__"
)
PINNED = {
    tuple(line.split(";")[0].strip().split("=="))
    for name in ("requirements.txt", "pyproject.toml")
    for line in re.findall(r'^[ "]*([\w.-]+==[\w.]+)', (REPOSITORY / name).read_text(), re.M)
}


@pytest.mark.parametrize("path", ADAPTERS, ids=lambda path: path.stem)
def test_adapters_import_one_package_and_nothing_of_this_program(path):
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module.partition(".")[0])
    others = modules - set(sys.stdlib_module_names)
    assert "shunted_jax" not in others
    assert len(others) <= 1


@pytest.mark.parametrize("path", ADAPTERS, ids=lambda path: path.stem)
def test_adapters_have_a_contract_of_an_installed_version_and_a_row(path):
    tests = vars(importlib.import_module(f"tests.adapters.test_{path.stem}")).values()
    seen = {test.seen for test in tests if hasattr(test, "seen")}
    assert seen
    assert seen <= PINNED, "a package was upgraded: look again, and write down the version"
    (row,) = [
        line
        for line in (REPOSITORY / "docs" / "adapters.md").read_text().splitlines()
        if line.startswith("|") and f"`{path.name}`" in line
    ]
    for package, version in seen:
        assert f"{package} {version}" in row


def test_the_table_names_files_that_exist():
    text = (REPOSITORY / "docs" / "adapters.md").read_text()
    rooms = (REPOSITORY, REPOSITORY / "shunted_jax", REPOSITORY / "shunted_jax" / "adapters")
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", text))
    assert len(named) > 30
    missing = [name for name in named if not any((room / name).exists() for room in rooms)]
    assert missing == []


def test_a_broken_contract_is_told_in_plain_words():
    @seen_with("numpy", "1.0", "two and two were five")
    def check():
        assert 2 + 2 == 5

    with pytest.raises(AssertionError, match=r"numpy 2.* With 1.0, two and two were five\."):
        check()
