"""The messages with which the package ends a program, read from its source.

    python -m tests.support.messages     # those that docs/troubleshooting.md lacks

A message is what an error is made with, wherever in an expression that stands. What is filled in
when it is raised stands as `FILLED`.
"""

import ast
import dataclasses
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SOURCES = [
    *sorted((ROOT / "shunted_jax").rglob("*.py")),
    *(ROOT / name for name in ("train.py", "convert_weights.py")),
]
PAGE = ROOT / "docs" / "troubleshooting.md"
FILLED = "\0"
# Those by which code tells other code something, not a person.
_FOR_CODE = {"AttributeError", "DamagedError", "IndexError", "OSError", "TypeError"}


@dataclasses.dataclass(frozen=True)
class Message:
    """One message. Attributes: where it stands, as FILE:LINE, the error's class, the words."""

    where: str
    error: str
    text: str


def messages() -> list[Message]:
    """Returns every message of the package and its scripts; one of many forms has a line each."""
    trees = {path: ast.parse(path.read_text()) for path in SOURCES}
    functions = {}
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                functions.setdefault(node.name, node)
    found = []
    for path, tree in trees.items():
        for call, scope in _errors_made(tree, None):
            for text in _texts(call.args[0], scope, functions, 4):
                if text.strip(f"{FILLED} :;,"):  # else it is another library's, passed on
                    where = f"{path.relative_to(ROOT)}:{call.lineno}"
                    found.append(Message(where, call.func.id, " ".join(text.split())))
    return list(dict.fromkeys(found))


def documented(page: str) -> list[str]:
    """Returns what a page in Markdown lists as messages: ``each in a span of two backticks``."""
    return [" ".join(text.split()) for text in re.findall(r"^- ``(.+?)``$", page, re.M | re.S)]


def is_of(entry: str, message: str) -> bool:
    """Returns whether a page's entry is of a message.

    Words in capitals stand for what is filled in. An entry that ends in "…" gives the beginning.
    """
    words, rest = (entry[:-1], ".*") if entry.endswith("…") else (entry, "")
    parts = re.split(r"[A-Z][A-Z0-9_]+", words)
    pattern = ".+?".join(re.escape(part) for part in parts) + rest
    return re.fullmatch(pattern, message, re.S) is not None


def _errors_made(node: ast.AST, scope: ast.AST | None) -> Iterator[tuple[ast.Call, ast.AST | None]]:
    for child in ast.iter_child_nodes(node):
        inner = child if isinstance(child, ast.FunctionDef) else scope
        if (
            isinstance(child, ast.Call)
            and isinstance(child.func, ast.Name)
            and child.func.id.endswith("Error")
            and child.func.id not in _FOR_CODE
            and child.args
        ):
            yield child, inner
        yield from _errors_made(child, inner)


def _texts(node: ast.AST, scope: ast.AST | None, functions: dict, depth: int) -> list[str]:
    """Returns the forms that an expression's text may have."""
    if isinstance(node, ast.Constant):
        return [str(node.value)] if node.value is not None else []
    if isinstance(node, ast.JoinedStr):
        glue = not any(part.value.strip(" :;,") for part in node.values if _is_text(part))
        parts = [
            [part.value]
            if _is_text(part)
            else _texts(part.value, scope, functions, depth)
            if glue
            else [FILLED]
            for part in node.values
        ]
        return ["".join(form) for form in itertools.product(*parts)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = [_texts(side, scope, functions, depth) for side in (node.left, node.right)]
        return ["".join(both) for both in itertools.product(*sides)]
    if isinstance(node, (ast.IfExp, ast.BoolOp)):
        ways = [node.body, node.orelse] if isinstance(node, ast.IfExp) else node.values
        return [text for way in ways for text in _texts(way, scope, functions, depth)]
    if isinstance(node, ast.Name) and scope is not None and depth:
        values = _values_of(node.id, scope)
        found = [text for value in values for text in _texts(value, scope, functions, depth - 1)]
        return found or [FILLED]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and depth:
        function = functions.get(node.func.id)
        returned = [
            inner.value
            for inner in (ast.walk(function) if function else ())
            if isinstance(inner, ast.Return) and inner.value is not None
        ]
        found = [text for v in returned for text in _texts(v, function, functions, depth - 1)]
        return found or [FILLED]
    return [FILLED]


def _is_text(part: ast.AST) -> bool:
    return isinstance(part, ast.Constant)


def _values_of(name: str, scope: ast.AST) -> list[ast.AST]:
    assigned = []
    for node in ast.walk(scope):
        if isinstance(node, (ast.Assign, ast.NamedExpr)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                assigned.append(node.value)
    return assigned


def without_entry(page: str) -> list[Message]:
    """Returns the messages of which a page says nothing."""
    entries = documented(page)
    return [m for m in messages() if not any(is_of(entry, m.text) for entry in entries)]


def without_message(page: str) -> list[str]:
    """Returns a page's entries that no message is of."""
    texts = [message.text for message in messages()]
    return [e for e in documented(page) if not any(is_of(e, text) for text in texts)]


if __name__ == "__main__":
    for message in without_entry(PAGE.read_text()):
        print(f"{message.where} {message.error}: {message.text.replace(FILLED, 'X')}")
