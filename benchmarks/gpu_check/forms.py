"""Each operation that the platform has a form for: the plain form against it, at T's own shapes.

Run as `python -m benchmarks.gpu_check.forms`.

The operations and their shapes are read from the network's program. Errors are relative, against
the plain form in float32 at the highest precision.
"""

import argparse
import math
from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu_check.clock import milliseconds
from benchmarks.gpu_check.rows import attempt, begin, row
from shunted_jax.models import create_model
from shunted_jax.models.cost import all_equations
from shunted_jax.ops.dispatch import run
from shunted_jax.ops.operation import Operation

# Of what is not timed: no choice of tilings, which would take seconds for each product.
_QUICK = {"xla_gpu_autotune_level": 0}


def main() -> None:
    """Writes two rows for each operation and shape, those that move most first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    batch, side = (2, 64) if parser.parse_args().small else (128, 224)
    begin()
    platform = jax.devices()[0].platform
    platform = {"gpu": "cuda"}.get(platform, platform)
    found = operations_of_t(batch, side)
    mine = {key: count for key, count in found.items() if platform in key[0].forms}
    row(platform_of_forms=platform, operations=sorted({str(op) for op, _ in mine}) or "none")
    # A network's operations have its precision in them.
    exact = dict(zip(found, operations_of_t(batch, side, "highest"), strict=True))
    for (operation, shapes), count in sorted(mine.items(), key=_moved, reverse=True):
        names = {"operation": str(operation), "shapes": _text(shapes), "count": count}
        (exact_operation, _) = exact[operation, shapes]
        compare(names, operation, exact_operation, draw(shapes, batch))


def operations_of_t(batch: int, side: int, precision: str | None = None) -> Counter:
    """Returns how often each operation with its arguments' (shape, dtype) is in T's forward pass.

    Args:
        batch: images.
        side: pixels.
        precision: of float32 products.
    """
    model = create_model("shunted_t", dtype=jnp.bfloat16, precision=precision)
    images = jax.ShapeDtypeStruct((batch, side, side, 3), jnp.bfloat16)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), images)
    found = Counter()
    for times, equation in all_equations(jax.make_jaxpr(model.apply)(variables, images).jaxpr):
        if equation.primitive.name == "operation":
            avals = tuple((x.aval.shape, x.aval.dtype.name) for x in equation.invars)
            found[equation.params["operation"], avals] += times
    return found


def compare(names: dict, operation: Operation, exact: Operation, arrays: list[jax.Array]) -> None:
    """Writes milliseconds and error of the plain form and of the platform's, in two modes.

    Args:
        names: for the rows.
        operation: what to compute.
        exact: the same at the highest precision, whose plain form errors are against.
        arrays: its arguments.
    """
    forms = {way: partial(run, operation, compute=way) for way in ("reference", "auto")}
    result = jax.eval_shape(forms["reference"], *arrays)
    (cotangent,) = draw([(result.shape, result.dtype.name)], result.shape[0])
    precise = [x.astype(jnp.float32) for x in (*arrays, cotangent)]
    truth = jax.jit(_with_gradients(exact.reference), compiler_options=_QUICK)(*precise)
    del precise
    for mode in ("forward", "forward+backward"):
        with attempt(**names, mode=mode) as figures:
            for name, form in forms.items():
                forward = mode == "forward"
                function = form if forward else _with_gradients(form)
                inputs = arrays if forward else (*arrays, cotangent)
                program = jax.jit(function).lower(*inputs).compile()
                figures[f"{name}_ms"] = milliseconds(program, *inputs)
                found = program(*inputs)
                figures[f"{name}_error"] = float(_error(found, truth[0] if forward else truth))
            figures["speedup"] = figures["reference_ms"] / figures["auto_ms"]


def draw(shapes: list, batch: int) -> list[jax.Array]:
    """Returns arrays of random numbers; parameters are as small as keeps a product's size.

    Args:
        shapes: of the arrays, each with a dtype.
        batch: by which what is data is told from what is a parameter.
    """
    arrays = []
    for number, (shape, dtype) in enumerate(shapes):
        values = jax.random.normal(jax.random.key(number), shape, dtype)
        is_data = len(shape) == 1 or (len(shape) > 2 and shape[0] == batch)
        arrays.append(values if is_data else values * math.prod(shape[:-1]) ** -0.5)
    return arrays


def _with_gradients(function):
    def both(*arrays_and_cotangent):
        *arrays, cotangent = arrays_and_cotangent
        result, pull_back = jax.vjp(function, *arrays)
        return result, pull_back(cotangent.astype(result.dtype))

    return both


def _moved(item: tuple) -> int:
    (_, shapes), count = item
    return count * sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in shapes)


@jax.jit
def _error(found, exact):
    def relative(x, y):
        x, y = (t.astype(jnp.float32) for t in (x, y))
        return jnp.linalg.norm((x - y).ravel()) / jnp.linalg.norm(y.ravel())

    return jnp.stack(jax.tree.leaves(jax.tree.map(relative, found, exact))).max()


def _text(shapes: tuple) -> str:
    return " ".join("x".join(map(str, shape)) for shape, _ in shapes)


if __name__ == "__main__":
    main()
