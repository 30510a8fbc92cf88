"""A whole module, as `torch.save(network)` and `torch.jit.save` write it: its state dict."""

from typing import Any

from shunted_jax.convert.pickles import Record, Stored
from shunted_jax.errors import UserError

_MOST = 100_000  # modules of a network; one that holds another twice counts it twice


def is_module(value: Any) -> bool:
    """Whether a record is one of a module, in Python or in TorchScript."""
    if not isinstance(value, Record) or not isinstance(value.state, dict):
        return False
    return _is_script(value) or {"_parameters", "_modules"} <= value.state.keys()


def state_dict_of(module: Record) -> dict[str, Any]:
    """Returns a module's tensors by their names; what is none of them stays in its place.

    Raises:
        UserError: the module is no network that can be.
    """
    tensors: dict[str, Any] = {}
    waiting = [("", module)]
    for _ in range(_MOST):
        if not waiting:
            return tensors
        prefix, module = waiting.pop()
        own, modules = _parts(module)
        tensors |= {f"{prefix}{name}": value for name, value in own.items()}
        for name, inner in reversed(modules.items()):
            if is_module(inner):
                waiting.append((f"{prefix}{name}.", inner))
            elif inner is not None:
                tensors[f"{prefix}{name}.*"] = inner
    raise UserError(f"the file holds a module of more than {_MOST:,} modules, which no network has")


def _is_script(module: Record) -> bool:
    return module.name.startswith("__torch__.")


def _parts(module: Record) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns a module's own tensors and its modules."""
    state = module.state
    if _is_script(module):
        tensors = {name: value for name, value in state.items() if isinstance(value, Stored)}
        return tensors, {name: value for name, value in state.items() if is_module(value)}
    hidden = state.get("_non_persistent_buffers_set") or ()
    buffers = {n: t for n, t in _dict(state, "_buffers").items() if n not in hidden}
    own = {**_dict(state, "_parameters"), **buffers}
    return {n: t for n, t in own.items() if t is not None}, _dict(state, "_modules")


def _dict(state: dict, name: str) -> dict:
    value = state.get(name)
    return value if isinstance(value, dict) else {}
