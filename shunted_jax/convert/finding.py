"""Where in a file the state dict stands, and which one is taken where there are several."""

import dataclasses
import re
import shlex
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from shunted_jax.convert.modules import Counting, is_module, state_dict_of
from shunted_jax.convert.names import is_landmark, shown
from shunted_jax.convert.pickles import Record
from shunted_jax.errors import UserError, some

# How people call the weights that training moves, the first ones first.
_PLAIN = ("model", "state_dict", "model_state_dict", "module", "net", "network", "student")
_PLAIN += ("params", "weights")
# And how they call an average of them.
_AVERAGE = re.compile(
    r"(?<![a-z])(ema|teacher|swa|avg|averaged?|momentum|shadow|target)(?![a-z])", re.IGNORECASE
)

# What is looked at: how deep in containers, how many state dicts, names of how many letters. What a
# stranger made can be a small file, and take for ever to whoever follows it beyond.
_DEEPEST, _MOST, LONGEST = 100, 1000, 1000


@dataclasses.dataclass(frozen=True)
class Found:
    """A state dict, and where it stood.

    Attributes:
        tensors: names to tensors, with whatever else stood among them.
        path: the keys that it was found under, from outside to inside.
        count: how many tensors it has.
        others: the places of the other ones and how many tensors each has.
        unread: the names of the classes whose objects stand beside it, and were not made.
    """

    tensors: Mapping[Any, Any]
    path: tuple[str, ...] = ()
    count: int = 0
    others: tuple[tuple[str, int], ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """What `--from` calls it."""
        return "/".join(self.path) or "."


def is_tensor(value: Any) -> bool:
    """Whether it has a shape and a type: numpy's arrays, PyTorch's tensors, those of a file."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def of_tensor(value: Any) -> Any:
    """Returns the tensor in a pair of its name and itself, as Paddle keeps it; else the value."""
    if type(value) is tuple and len(value) == 2 and isinstance(value[0], str):
        return value[1]
    return value


def find_state_dict(loaded: Any, wanted: str | None = None) -> Found:
    """Returns the state dict of a Shunted Transformer, wherever it stands.

    Where there is none, the largest one of another network.

    Args:
        loaded: what a file holds: containers in containers.
        wanted: the key that it stands under, or all of them with a slash between; None takes the
            only one, or of several the one that training moves.

    Raises:
        UserError: there is none, or there are several and none of them is the plain one.
    """
    ours, stranger, unread = [], None, []
    spend = Counting()
    for path, node, inside in _walk(loaded):
        tensors = state_dict_of(node, spend) if is_module(node) else _mapping(node)
        if tensors is None or not (count := _count(tensors)):
            if isinstance(node, Record) and not inside:
                unread.append(node.name)
        elif any(_tells(name, value) for name, value in tensors.items()):
            if len(ours) == _MOST:
                raise UserError(f"the file holds more than {_MOST:,} state dicts: save one of them")
            ours.append((_keys(path), tensors, count))
        elif stranger is None or count > stranger[2]:
            stranger = path, tensors, count
    if not ours:
        if stranger is None:
            raise UserError(_nothing_in(loaded))
        path, *rest = stranger
        ours = [(_keys(path), *rest)]
    taken = _choose([keys for keys, _, _ in ours], [count for _, _, count in ours], wanted)
    others = [("/".join(keys) or ".", count) for keys, _, count in ours[:taken] + ours[taken + 1 :]]
    keys, tensors, count = ours[taken]
    return Found(tensors, keys, count, tuple(others), tuple(dict.fromkeys(unread)))


def _walk(loaded: Any) -> Iterator[tuple[Any, Any, bool]]:
    """Yields each container once, with the way to it and whether it is inside of a record."""
    seen, opened = set(), set()
    waiting = deque([(None, loaded, False, 0)])
    while waiting:
        path, node, inside, depth = waiting.popleft()
        if id(node) in seen:  # containers may share what they hold, over and over
            continue
        seen.add(id(node))
        yield path, node, inside
        if is_module(node) or depth == _DEEPEST:
            continue
        inside = inside or isinstance(node, Record)
        for key, value in _children(node, opened):
            if isinstance(value, (Mapping, Record, list, tuple)):
                waiting.append(((path, key), value, inside, depth + 1))


def _children(node: Any, opened: set[int]) -> Iterator[tuple[Any, Any]]:
    """Yields what is in a container or in a record's parts, of which many may share one."""
    record = isinstance(node, Record)
    for part in (node.state, node.pairs, node.items, node.arguments) if record else (node,):
        if id(part) in opened:
            continue
        opened.add(id(part))
        if isinstance(part, Record):
            yield None, part
        elif isinstance(part, Mapping):
            yield from part.items()
        elif isinstance(part, (list, tuple)):
            yield from enumerate(part)


def _mapping(node: Any) -> Mapping | None:
    if isinstance(node, Record):
        return node.pairs
    return node if isinstance(node, Mapping) else None


def _count(tensors: Mapping) -> int:
    return sum(isinstance(n, str) and is_tensor(of_tensor(t)) for n, t in tensors.items())


def _tells(name: Any, value: Any) -> bool:
    there = is_tensor(of_tensor(value)) or isinstance(value, Record)
    return there and isinstance(name, str) and len(name) <= LONGEST and is_landmark(name)


def _keys(path: Any) -> tuple[str, ...]:
    keys = []
    while path is not None:
        path, key = path
        keys.append(shown(str(key)) if isinstance(key, (str, int)) else "?")
    return tuple(reversed(keys))


def _choose(places: list[tuple[str, ...]], counts: list[int], wanted: str | None) -> int:
    names = ["/".join(keys) or "." for keys in places]
    held = [
        f"{name[:LONGEST]} ({count:,} tensors)" for name, count in zip(names, counts, strict=True)
    ]
    if wanted is not None:
        fitting = [at for at, name in enumerate(names) if name == wanted.strip("/")]
        fitting = fitting or [at for at, keys in enumerate(places) if wanted in keys]
        if len(fitting) == 1:
            return fitting[0]
        raise UserError(
            f"--from {wanted} names {'none' if not fitting else 'several'} of the state dicts in "
            f"the file, which are {some(held)}"
        )
    if len(places) == 1:
        return 0
    plain = [at for at, keys in enumerate(places) if not any(map(_AVERAGE.search, keys))]
    for name in _PLAIN:
        if len(plain) > 1 and (named := [at for at in plain if name in places[at]]):
            plain = named
    if len(plain) == 1:
        return plain[0]
    raise UserError(
        f"the file holds {len(places)} state dicts, {some(held)}: say which with "
        f"--from {shlex.quote(names[0])}"
    )


def _nothing_in(loaded: Any) -> str:
    if isinstance(loaded, Mapping):
        state = loaded.get("optimizer_state_dict")
        if isinstance(state, Mapping) and "zero_stage" in state:
            return (
                "the file holds a part of an optimizer's state, of DeepSpeed's: the weights lie in "
                "mp_rank_00_model_states.pt beside it, or after ZeRO-3 in the file that `python "
                "zero_to_fp32.py . whole` makes there"
            )
        names = [shown(str(name)) for name in loaded if isinstance(name, (str, int))]
        known = ", ".join(names[:8]) or "nothing that has a name"
        return f"the file holds no tensors; at its top it has {known}"
    kind = loaded.name if isinstance(loaded, Record) else type(loaded).__name__
    kind = "tensor" if is_tensor(loaded) else kind
    return f"the file holds a {kind}, not a mapping of names to tensors: save network.state_dict()"
