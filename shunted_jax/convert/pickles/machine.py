"""The machine that a pickle is a program for: a stack, a memo, and no way to anything else.

Each command is what the standard library's `pickletools` says of it, except that a name stays a
name, and that calls go to `construct`. Protocols 0 to 5.
"""

import struct
from collections.abc import Callable
from typing import Any

from shunted_jax.convert.pickles.commands import COMMANDS, STOP
from shunted_jax.convert.pickles.constructors import EVAL, Call, construct
from shunted_jax.convert.pickles.records import (
    DamagedError,
    Global,
    Record,
    UnreadableError,
    named,
    plain_key,
)
from shunted_jax.convert.pickles.stored import Source, Span

_MOST_COMMANDS = 3_000_000
_MOST_LETTERS = 1000  # of a class with its module
_MOST_TAKEN_UP = 256  # bytes of a text or of bytes; more stay in the file as a `Span`

Persistent = Callable[[Any], Any]


def run(source: Source, start: int, end: int, persistent: Persistent) -> tuple[Any, int]:
    """Reads a pickle.

    Args:
        source: the file.
        start: where in it the pickle begins.
        end: what it does not reach beyond.
        persistent: what an object is that the pickle names and the file has beside it.

    Returns:
        What the pickle holds, and where it ended.

    Raises:
        DamagedError: it is no pickle, or a broken one.
        UnreadableError: it names what runs code, or is larger than a checkpoint's can be.
    """
    machine = _Machine(source, start, end, persistent)
    try:
        return machine.run(), machine.at
    except (DamagedError, UnreadableError):
        raise
    except (IndexError, struct.error, ValueError) as error:
        raise DamagedError(f"its pickle breaks off at byte {machine.at:,}: {error}") from error


def _refusal(wanted: Global) -> str:
    return (
        f"asks to load {wanted}, which weights do not need and which could run a stranger's code: "
        "refused, and nothing was run. Have network.state_dict() saved alone"
    )


class _Machine:
    def __init__(self, source: Source, start: int, end: int, persistent: Persistent):
        self.source, self.at, self.end, self.persistent = source, start, end, persistent
        self.stack: list = []
        self.below: list[list] = []  # the stacks under each mark
        self.memo: dict[int, Any] = {}
        self.left = _MOST_COMMANDS
        self.frame = 0  # where the present one ends

    def run(self) -> Any:
        content = self.source.map
        while self.at < self.end:
            self.spend(1)
            code = content[self.at]
            self.at += 1
            if code == STOP:
                return self.stack.pop()
            command = COMMANDS.get(code)
            if command is None:
                raise DamagedError(f"its pickle has no command {code} at byte {self.at - 1:,}")
            command(self)
        raise DamagedError("its pickle has no end")

    def spend(self, count: int) -> None:
        """Counts commands, and elements that a command copies."""
        self.left -= count
        if self.left < 0:
            raise UnreadableError(
                f"takes more than {_MOST_COMMANDS:,} steps to read, which no checkpoint does: "
                "save network.state_dict() alone"
            )

    def take(self, size: int) -> bytes:
        start = self.skip(size)
        return self.source.map[start : self.at]

    def skip(self, size: int) -> int:
        """Goes on by so many bytes, and returns where they start."""
        start = self.at
        if not 0 <= size <= self.end - start or start < self.frame < start + size:
            raise DamagedError(f"its pickle breaks off at byte {start:,}")
        self.at += size
        return start

    def enter_frame(self, size: int) -> None:
        """Notes a stretch that the pickle announces: what is in it goes on to its end."""
        if self.at < self.frame or size > self.end - self.at:
            raise DamagedError(f"its pickle breaks off at byte {self.at:,}")
        self.frame = self.at + size

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> bytes:
        end = self.source.map.find(b"\n", self.at, self.end)
        if end < 0:
            raise DamagedError(f"its pickle has a line without an end at byte {self.at:,}")
        content = self.take(end - self.at)
        self.at += 1
        return content

    def word(self) -> str:
        return self.line().decode()

    def run_of(self, size: int, text: bool = False) -> Any:
        """Returns text or bytes; long ones as where they lie."""
        if size <= _MOST_TAKEN_UP:
            content = self.take(size)
            return content.decode(errors="surrogatepass") if text else content
        return Span(self.source, self.skip(size), size, text)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def since_mark(self) -> list:
        if not self.below:
            raise DamagedError("its pickle closes what it did not open")
        values, self.stack = self.stack, self.below.pop()
        self.spend(len(values))
        return values

    def find(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise DamagedError("its pickle names something without a name")
        if len(module) + len(name) > _MOST_LETTERS:
            raise DamagedError(f"its pickle names something by {len(module) + len(name):,} letters")
        wanted = named(module, name)
        if wanted.runs_code and wanted != EVAL:  # one call of it is data
            raise UnreadableError(_refusal(wanted))
        self.push(wanted)

    def call(self, callee: Any, arguments: Any) -> None:
        if not isinstance(callee, (Global, Record)) or not isinstance(arguments, tuple):
            raise DamagedError("its pickle calls what cannot be called")
        made = construct(callee, Call(self.source, arguments, self.spend))
        if isinstance(made, Record) and made.made_by == EVAL:
            raise UnreadableError(_refusal(EVAL))
        self.push(made)

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise DamagedError(f"its pickle recalls what it never had at byte {self.at:,}")
        self.push(self.memo[index])

    def extend(self, values: list) -> None:
        target = self.stack[-1]
        if isinstance(target, Record):
            target.items = target.items if target.items is not None else []
            target = target.items
        if not isinstance(target, list):
            raise DamagedError("its pickle appends to what is no list")
        target.extend(values)

    def set_items(self, values: list) -> None:
        target = self.stack[-1]
        if isinstance(target, Record):
            target.pairs = target.pairs if target.pairs is not None else {}
            target = target.pairs
        if not isinstance(target, dict) or len(values) % 2:
            raise DamagedError("its pickle sets an item of what is no dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[plain_key(key)] = value
