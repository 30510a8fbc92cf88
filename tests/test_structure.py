"""Data flows one way: which part of the package may import which, read from the imports."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "shunted_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# What a file may not import, by the path that it lies under.
FORBIDDEN = {
    "models": ("shunted_jax.data", "shunted_jax.training", "shunted_jax.reporting"),
    "data": ("shunted_jax.models", "shunted_jax.training", "jax", "flax"),
}
# A command, not part of what it lies beside: it shows the host's and the device's work together.
EXEMPT = ()
# What only these files may import.
RESERVED = {
    "orbax": {"checkpoints/run_checkpoints.py", "checkpoints/weights.py", "checkpoints/hosts.py"},
    "torch": {"convert/torch_files.py"},
    "tensorflow": set(),
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module, package):
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_keep_to_their_side(path):
    relative = path.relative_to(PACKAGE)
    modules = list(imports(path))
    for package in () if str(relative) in EXEMPT else FORBIDDEN.get(relative.parts[0], ()):
        assert not [module for module in modules if within(module, package)]
    for package, allowed in RESERVED.items():
        if str(relative) not in allowed:
            assert not [module for module in modules if within(module, package)]


def test_rules_are_not_vacuous():
    assert len(FILES) > 20
    assert "shunted_jax.models.create_model" in set(imports(PACKAGE / "training" / "run.py"))
    assert "orbax.checkpoint" in set(imports(PACKAGE / "checkpoints" / "run_checkpoints.py"))
