"""What a package's files import, read from their text, and what they reach by it."""

import ast
from collections import deque
from pathlib import Path


def imported(path: Path) -> list[str]:
    """Returns the full names that a file imports, wherever in it, or runs as a module."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call):
            function = getattr(node.func, "attr", getattr(node.func, "id", None))
            first = node.args[0] if node.args else None
            if function in ("import_module", "run_module", "__import__"):
                assert isinstance(first, ast.Constant), f"{path}: imports a module by a variable"
                names.append(first.value)
    return names


class Tree:
    """The imports of a package's files, by their paths in it."""

    def __init__(self, package: Path):
        files = sorted(package.rglob("*.py"))
        self.files = [path.relative_to(package).as_posix() for path in files]
        names = {file: imported(path) for file, path in zip(self.files, files, strict=True)}
        self._silent = {file for file, of_file in names.items() if not of_file}
        self.own = {file: self._own(package.name, of_file) for file, of_file in names.items()}
        self.others = {
            file: {name.partition(".")[0] for name in of_file} - {package.name}
            for file, of_file in names.items()
        }

    def _own(self, package: str, names: list[str]) -> set[str]:
        """Returns the package's files that names stand for, and what their folders import."""
        own = set()
        for name in names:
            first, *parts = name.split(".")
            if first != package:
                continue
            paths = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
            files = {f"{path}.py" for path in paths} & set(self.files)
            folders = {f"{path}/__init__.py" for path in paths} & set(self.files)
            own |= files | (folders - self._silent)
            if not files | folders:  # a name that the package itself has
                own.add("__init__.py")
        return own

    def chains(self, start: str) -> dict[str, list[str]]:
        """Returns each file that `start` reaches, with the shortest way to it."""
        chains, queue = {start: [start]}, deque([start])
        while queue:
            file = queue.popleft()
            for following in sorted(self.own[file] - chains.keys()):
                chains[following] = [*chains[file], following]
                queue.append(following)
        return chains
