"""A whole module, as `torch.save(network)` and `torch.jit.save` write it: its state dict."""

from collections.abc import Callable
from typing import Any

from shunted_jax.convert.pickles import Record, Stored
from shunted_jax.errors import UserError

# Modules and tensors that are looked at in a file; what holds another twice counts it twice.
_MOST = 300_000
_LONGEST = 1000  # letters of a tensor's name


def is_module(value: Any) -> bool:
    """Whether a record is one of a module, in Python or in TorchScript."""
    if not isinstance(value, Record) or not isinstance(value.state, dict):
        return False
    return _is_script(value) or {"_parameters", "_modules"} <= value.state.keys()


class Counting:
    """Counts the parts of all modules of a file.

    Each module of a list may hold one and the same large one: the file is small, and the way
    through it is not.
    """

    def __init__(self):
        self.left = _MOST

    def __call__(self, count: int) -> None:
        """Counts so many.

        Raises:
            UserError: they are more than a network can have.
        """
        self.left -= count
        if self.left < 0:
            raise UserError(
                f"the file holds modules of more than {_MOST:,} parts, which no network has"
            )


def state_dict_of(module: Record, spend: Callable[[int], None]) -> dict[str, Any]:
    """Returns a module's tensors by their names; what is none of them stays in its place.

    Args:
        module: a record of one.
        spend: is told how many parts are looked at, a `Counting`.

    Raises:
        UserError: the module is no network that can be.
    """
    tensors: dict[str, Any] = {}
    waiting = [("", module)]
    while waiting:
        prefix, module = waiting.pop()
        own, modules = _parts(module, spend)
        tensors |= {_joined(prefix, name): value for name, value in own.items()}
        for name, inner in reversed(modules.items()):
            if is_module(inner):
                waiting.append((_joined(prefix, name) + ".", inner))
            elif inner is not None:
                tensors[_joined(prefix, name) + ".*"] = inner
    return tensors


def _joined(prefix: str, name: Any) -> str:
    if not isinstance(name, str) or len(prefix) + len(name) > _LONGEST:
        raise UserError(
            f"the file holds a module whose parts have no names, or some of over {_LONGEST:,} "
            "letters, which no network has"
        )
    return prefix + name


def _is_script(module: Record) -> bool:
    return module.name.startswith("__torch__.")


def _parts(module: Record, spend: Callable[[int], None]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns a module's own tensors and its modules."""
    state = module.state
    spend(1 + len(state))
    if _is_script(module):
        tensors = {name: value for name, value in state.items() if isinstance(value, Stored)}
        return tensors, {name: value for name, value in state.items() if is_module(value)}
    parameters, buffers, modules = (
        _dict(state, name) for name in ("_parameters", "_buffers", "_modules")
    )
    hidden = state.get("_non_persistent_buffers_set")
    hidden = hidden if isinstance(hidden, list) else []
    spend(sum(map(len, (parameters, buffers, modules, hidden))))
    names = {name for name in hidden if isinstance(name, str)}
    buffers = {name: value for name, value in buffers.items() if name not in names}
    own = {**parameters, **buffers}
    return {name: value for name, value in own.items() if value is not None}, modules


def _dict(state: dict, name: str) -> dict:
    value = state.get(name)
    return value if isinstance(value, dict) else {}
