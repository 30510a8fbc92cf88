"""Imports go one way: which part of the package may reach which, through whatever lies between.

A room is a folder or a file at the top. `MAY_REACH` says of each which other rooms it may import,
or import something that does. Imports inside functions count, and modules that are run by their
names.
"""

import sys
from pathlib import Path

import pytest

from tests.support.imports import Tree

PACKAGE = Path(__file__).parent.parent / "shunted_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

_GROUND = {"adapters", "errors", "names"}
_STORAGE = {*_GROUND, "resources", "storage"}
_LOCKS = {*_STORAGE, "locks"}
_CONFIG = {*_GROUND, "retired", "config_checks", "config"}
_NETWORK = {*_GROUND, "retired", "ops", "ops/pallas", "models"}
_DATA = {*_CONFIG, *_STORAGE, "terminal", "data"}
_HUB = {*_NETWORK, *_LOCKS, "terminal", "checkpoints", "convert", "hub"}
_WEIGHTS = {*_HUB, "pretrained"}
_REPORTING = {*_CONFIG, *_NETWORK, *_STORAGE, "terminal", "reporting"}
_TASKS = {*_REPORTING, *_DATA, "augment", "tasks"}
_STEP = {*_TASKS, "training/devices", "training/step"}
_TRAINING = {*_STEP, *_WEIGHTS, "training"}

MAY_REACH = {
    "adapters": set(),
    "errors": {"adapters", "names"},
    "names": set(),
    "terminal": set(),
    "retired": set(),
    "resources": {*_GROUND, "resources"},
    "storage": _STORAGE,
    "locks": _STORAGE,
    "platforms": _GROUND,
    "config_checks": set(),
    "config": _CONFIG,
    "ops": {*_GROUND, "ops/pallas"},
    "ops/pallas": {*_GROUND, "ops"},
    "models": _NETWORK,
    "data": _DATA,
    "augment": _CONFIG,
    "checkpoints": {*_NETWORK, *_LOCKS},
    "convert": {*_NETWORK, *_STORAGE},
    "hub": _HUB,
    "pretrained": _WEIGHTS,
    "reporting": _REPORTING,
    "tasks": _TASKS,
    "training/devices": _CONFIG,
    "training/step": _STEP,
    "training": _TRAINING,
    "commands": {*_TRAINING, "platforms", "commands"},
    "": _WEIGHTS,  # the package itself: what people import
}
# What is not to be reached from a room, of other people's packages.
NOT_REACHED = {
    "errors": {"jax", "flax"},
    "names": {"jax", "flax"},
    "terminal": {"jax", "flax"},
    "retired": {"jax", "flax"},
    "config_checks": {"jax", "flax"},
    "config": {"jax", "flax"},
    "data": {"jax", "flax"},  # its worker processes would each start one
    "ops": {"optax", "grain"},
    "models": {"optax", "grain"},
}
# What only these files and folders import.
RESERVED = {
    "orbax": ("adapters/orbax.py", "checkpoints/"),
    "torch": ("convert/torch_files.py", "convert/torch_reference.py"),
    "huggingface_hub": ("hub/fetching.py",),
    "tensorflow": (),
    "grain": ("adapters/grain.py", "data/"),
}
# Where commands were before: they run those of today, and nothing imports them.
FORMER = {"data/prepare.py", "data/preview.py"}


def room_of(file: str) -> str:
    """Returns the room of a file, both by their paths in the package."""
    if file == "__init__.py":
        return ""
    name = file.removesuffix("/__init__.py").removesuffix(".py")
    while name not in MAY_REACH:
        assert "/" in name, f"{file} is in no room: say in MAY_REACH what it may reach"
        name = name.rpartition("/")[0]
    return name


def violations(tree: Tree, start: str) -> list[str]:
    """Returns, each as the way that leads there, what a file may not reach."""
    room = room_of(start)
    problems = []
    for file, chain in tree.chains(start).items():
        if room_of(file) not in {room, *MAY_REACH[room]}:
            problems.append(" -> ".join(chain))
        for package in tree.others[file] & NOT_REACHED.get(room, set()):
            problems.append(" -> ".join([*chain, package]))
    for package, places in RESERVED.items():
        if package in tree.others[start] and not start.startswith(places or ("nowhere",)):
            problems.append(f"{start} -> {package}")
    return problems


@pytest.fixture(scope="module")
def tree():
    return Tree(PACKAGE)


@pytest.mark.parametrize("file", [path.relative_to(PACKAGE).as_posix() for path in FILES])
def test_imports_go_one_way(tree, file):
    if file in FORMER:
        assert not [other for other in tree.files if file in tree.own[other]]
    else:
        assert violations(tree, file) == []


def test_rooms_are_in_one_order():
    # Parts of one folder may know each other.
    def folder(room):
        return room.partition("/")[0]

    for room, others in MAY_REACH.items():
        assert others <= MAY_REACH.keys()
        for other in others - {room}:
            assert MAY_REACH[other] <= {room, *others}, f"{other} reaches more than {room} may"
            if folder(other) != folder(room):
                assert room not in MAY_REACH[other]


def test_the_tree_is_read_as_it_is(tree):
    assert len(tree.files) > 80
    assert "models/registry.py" in tree.own["models/__init__.py"]
    assert {"models/__init__.py", "models/cost.py"} <= tree.own["reporting/gauges.py"]
    assert "orbax" in tree.others["checkpoints/run_checkpoints.py"]
    assert "commands/preview.py" in tree.own["data/preview.py"]  # by runpy
    for room in MAY_REACH:
        assert [file for file in tree.files if room_of(file) == room], f"{room} is no room"
    assert sys.stdlib_module_names.isdisjoint(RESERVED)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"errors.py": "", "models/net.py": "from shunted_jax.errors import UserError"}, []),
        # Through another file, and inside of a function.
        (
            {
                "models/net.py": "from shunted_jax.errors import UserError",
                "errors.py": "def f():\n    from shunted_jax.training import loop",
                "training/loop.py": "",
            },
            ["models/net.py -> errors.py -> training/loop.py"],
        ),
        # Through the file of a folder, which whoever imports from the folder runs.
        (
            {
                "models/net.py": "import shunted_jax.ops.attention",
                "ops/__init__.py": "from shunted_jax import config",
                "ops/attention.py": "",
                "config.py": "",
            },
            ["models/net.py -> ops/__init__.py -> config.py"],
        ),
        (
            {
                "models/net.py": "from shunted_jax.ops import run",
                "ops/__init__.py": "import_module('shunted_jax.config')",
                "config.py": "",
            },
            ["models/net.py -> ops/__init__.py -> config.py"],
        ),
        # The package itself, whose file imports everything.
        (
            {"models/net.py": "from shunted_jax import create_model", "__init__.py": ""},
            ["models/net.py -> __init__.py"],
        ),
        # Other people's packages: those that a room is kept from, and those kept for a few.
        (
            {
                "data/net.py": "from shunted_jax.terminal import on_terminal",
                "terminal.py": "import jax.numpy as jnp",
            },
            ["data/net.py -> terminal.py -> jax"],
        ),
        ({"data/net.py": "from orbax import checkpoint"}, ["data/net.py -> orbax"]),
        ({"data/net.py": "import tensorflow"}, ["data/net.py -> tensorflow"]),
        ({"checkpoints/net.py": "from orbax import checkpoint"}, []),
    ],
)
def test_rules_can_be_broken(files, found, tmp_path):
    for name, text in files.items():
        path = tmp_path / "shunted_jax" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    of_room = next(name for name in files if name.endswith("net.py"))
    assert violations(Tree(tmp_path / "shunted_jax"), of_room) == found


def test_a_file_in_no_room_is_refused():
    with pytest.raises(AssertionError, match=r"utils/things.py is in no room: say in MAY_REACH"):
        room_of("utils/things.py")
