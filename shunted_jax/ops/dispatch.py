"""Which form of a computation each backend runs: the one place that chooses.

Forms of one computation agree in value and in gradient, to rounding; which is fast depends on the
backend. The choice is made when a program is lowered, for the platform that it is lowered for,
which need not be the process's default one: a program compiled on a CPU for a TPU gets the TPU's.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

# Measured with benchmarks/throughput.py and benchmarks/tpu_aot.py; docs/performance.md has the
# figures. Platforms that are not named take the form after "otherwise".
_FASTEST = {
    # XLA's CPU backend has no kernel for a depthwise convolution, only a loop: `conv` makes the
    # whole network 2.5 to 3.8 times slower there. Compiled for a TPU, `conv` moves fewer bytes.
    "depthwise": {"cpu": "shift", "otherwise": "conv"},
    # Of several images' hidden maps a CPU's cache keeps none until the next operation.
    "detail": {"cpu": "shift", "otherwise": "conv"},
    # A convolution that does not overlap is a matrix product of its patches.
    "patches": {"cpu": "matmul", "otherwise": "conv"},
    # So is one with stride 2, of overlapping ones.
    "strided": {"cpu": "matmul", "otherwise": "conv"},
    # XLA's CPU backend has one core compute a kernel's gradient: several at once take two thirds.
    "overlapping": {"cpu": "parts", "otherwise": "whole"},
    # Gradients of the whole network, with the next one's: 1.1 times as fast at batch 8.
    "product": {"cpu": "narrow_first", "otherwise": "plain"},
    # A reduction draws what precedes it into one fusion of XLA's CPU library, and writes it out:
    # products instead take 0.8 of the network's time at batch 16.
    "layer_norm": {"cpu": "matmul", "otherwise": "reduce"},
    # One pass less over the weights, and no turning of heads: 0.45 to 0.9 of the time on a CPU.
    "attention": {"cpu": "quotient", "otherwise": "weights"},
}


def run_fastest(
    computation: str, forms: Mapping[str, Callable[..., Any]], *arguments: Any, form: str | None
) -> Any:
    """Calls one of `forms`, the fastest for the platform that the program is lowered for.

    Args:
        computation: what the forms compute, a key of the table above.
        forms: functions by name, of the same arguments and results.
        *arguments: arrays, or trees of them.
        form: the name of the form to call instead, whatever the platform.

    Raises:
        ValueError: `form` is not a name in `forms`.
    """
    if form is not None:
        check_form("form", form, forms)
        return forms[form](*arguments)
    fastest = dict(_FASTEST[computation])
    otherwise = _traced_once(forms[fastest.pop("otherwise")])
    by_platform = {platform: _traced_once(forms[name]) for platform, name in fastest.items()}
    return jax.lax.platform_dependent(*arguments, **by_platform, default=otherwise)


@functools.cache
def _traced_once(form: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `form` as a program of its own, which JAX traces once for all blocks alike."""
    return jax.jit(form)


def check_form(name: str, form: str | None, forms: Iterable[str]) -> None:
    """Raises ValueError, naming the argument, unless `form` is None or among `forms`."""
    if form is not None and form not in forms:
        raise ValueError(
            f"{name} is {form!r}, and the forms are {sorted(forms)}; None leaves the choice to the "
            "network"
        )
