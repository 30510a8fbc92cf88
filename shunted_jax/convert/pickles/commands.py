"""What each command of a pickle does to the machine, by its byte."""

import re
from collections.abc import Callable
from typing import Any

from shunted_jax.convert.pickles.constructors import NEWOBJ, build
from shunted_jax.convert.pickles.records import DamagedError, UnreadableError

STOP = ord(".")
_NEWEST_PROTOCOL = 5
_MOST_OF_A_NUMBER = 1024
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)
_ESCAPES = frozenset("\\'\"abfnrtvx01234567")


def _proto(m: Any) -> None:
    if (protocol := m.number("<B")) > _NEWEST_PROTOCOL:
        raise DamagedError(f"its pickle says protocol {protocol}, which there is not")


def _number(text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise DamagedError(f"its pickle has no number where one belongs: {text[:20]!r}") from None


def _index(m: Any) -> int:
    return _number(m.word(), int)


def _whole(m: Any) -> None:
    text = m.word()
    m.push(text == "01" if text in ("00", "01") else _number(text, int))


def _quoted(m: Any) -> None:
    text = m.word()
    inside = text[1:-1]
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
        raise DamagedError("its pickle has a text without quotes")
    if not set(_ESCAPE.findall(inside)) <= _ESCAPES:
        raise DamagedError("its pickle has a text with an escape that no program writes")
    m.push(inside.encode("latin1").decode("unicode-escape"))


def _old_text(m: Any, size: int) -> None:
    # Python 2's texts are bytes; which of them were meant as text it does not say.
    content = m.run_of(size)
    m.push(content.decode("latin1") if isinstance(content, bytes) else content)


def _long(m: Any, size: int) -> None:
    content = m.take(size)
    if size > _MOST_OF_A_NUMBER:  # to multiply such numbers, or to show one, takes for ever
        raise UnreadableError(
            f"has a number of {size:,} bytes, which no checkpoint needs: save network.state_dict() "
            "alone"
        )
    m.push(int.from_bytes(content, "little", signed=True))


def _mark(m: Any) -> None:
    m.below.append(m.stack)
    m.stack = []


def _pop(m: Any) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.since_mark()


def _tuple(m: Any, count: int) -> None:
    values = [m.stack.pop() for _ in range(count)]
    m.push(tuple(reversed(values)))


def _dict(m: Any) -> None:
    values = m.since_mark()
    m.push({})
    m.set_items(values)


def _set_item(m: Any) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    m.set_items([key, value])


def _find_on_stack(m: Any) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    m.find(module, name)


def _call(m: Any) -> None:
    arguments, callee = m.stack.pop(), m.stack.pop()
    m.call(callee, arguments)


def _new_with_names(m: Any) -> None:
    names, arguments, made_by = m.stack.pop(), m.stack.pop(), m.stack.pop()
    m.call(NEWOBJ, (made_by, arguments, names))


def _instance(m: Any) -> None:
    m.find(m.word(), m.word())
    made_by = m.stack.pop()
    m.call(made_by, tuple(m.since_mark()))


def _object(m: Any) -> None:
    made_by, *arguments = m.since_mark()
    m.call(made_by, tuple(arguments))


def _build(m: Any) -> None:
    state = m.stack.pop()
    build(m.stack[-1], state, m.source)


def _extension(m: Any, form: str) -> None:
    raise UnreadableError(
        f"names something by copyreg's number {m.number(form)}, which only the program that made "
        "it knows: save network.state_dict() alone"
    )


def _out_of_band(m: Any) -> None:
    raise UnreadableError(
        "keeps its arrays in buffers beside the pickle, which are not in the file: save it again "
        "without buffer_callback"
    )


COMMANDS: dict[int, Callable[[Any], None]] = {
    ord(code): command
    for code, command in {
        "\x80": _proto,
        "\x95": lambda m: m.enter_frame(m.number("<Q")),
        "N": lambda m: m.push(None),
        "\x88": lambda m: m.push(True),
        "\x89": lambda m: m.push(False),
        "I": _whole,
        "L": lambda m: m.push(_number(m.word().rstrip("L"), int)),
        "J": lambda m: m.push(m.number("<i")),
        "K": lambda m: m.push(m.number("<B")),
        "M": lambda m: m.push(m.number("<H")),
        "\x8a": lambda m: _long(m, m.number("<B")),
        "\x8b": lambda m: _long(m, m.number("<i")),
        "F": lambda m: m.push(_number(m.word(), float)),
        "G": lambda m: m.push(m.number(">d")),
        "S": _quoted,
        "T": lambda m: _old_text(m, m.number("<I")),
        "U": lambda m: _old_text(m, m.number("<B")),
        "V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
        "X": lambda m: m.push(m.run_of(m.number("<I"), text=True)),
        "\x8c": lambda m: m.push(m.run_of(m.number("<B"), text=True)),
        "\x8d": lambda m: m.push(m.run_of(m.number("<Q"), text=True)),
        "B": lambda m: m.push(m.run_of(m.number("<I"))),
        "C": lambda m: m.push(m.run_of(m.number("<B"))),
        "\x8e": lambda m: m.push(m.run_of(m.number("<Q"))),
        "\x96": lambda m: m.push(m.run_of(m.number("<Q"))),
        "\x97": _out_of_band,
        "\x98": _out_of_band,
        "(": _mark,
        "0": _pop,
        "1": lambda m: m.since_mark(),
        "2": lambda m: m.push(m.stack[-1]),
        ")": lambda m: m.push(()),
        "\x85": lambda m: _tuple(m, 1),
        "\x86": lambda m: _tuple(m, 2),
        "\x87": lambda m: _tuple(m, 3),
        "t": lambda m: m.push(tuple(m.since_mark())),
        "]": lambda m: m.push([]),
        "l": lambda m: m.push(m.since_mark()),
        "}": lambda m: m.push({}),
        "d": _dict,
        "a": lambda m: m.extend([m.stack.pop()]),
        "e": lambda m: m.extend(m.since_mark()),
        "s": _set_item,
        "u": lambda m: m.set_items(m.since_mark()),
        "\x8f": lambda m: m.push([]),  # a set, whose members nobody looks up
        "\x90": lambda m: m.extend(m.since_mark()),
        "\x91": lambda m: m.push(m.since_mark()),
        "p": lambda m: m.remember(_index(m)),
        "q": lambda m: m.remember(m.number("<B")),
        "r": lambda m: m.remember(m.number("<I")),
        "\x94": lambda m: m.remember(len(m.memo)),
        "g": lambda m: m.recall(_index(m)),
        "h": lambda m: m.recall(m.number("<B")),
        "j": lambda m: m.recall(m.number("<I")),
        "c": lambda m: m.find(m.word(), m.word()),
        "\x93": _find_on_stack,
        "R": _call,
        "\x81": lambda m: _tuple(m, 2) or m.call(NEWOBJ, m.stack.pop()),
        "\x92": _new_with_names,
        "i": _instance,
        "o": _object,
        "b": _build,
        "\x82": lambda m: _extension(m, "<B"),
        "\x83": lambda m: _extension(m, "<H"),
        "\x84": lambda m: _extension(m, "<i"),
        "P": lambda m: m.push(m.persistent(m.word())),
        "Q": lambda m: m.push(m.persistent(m.stack.pop())),
    }.items()
}
