"""What a model costs: parameters and multiply-accumulates, counted from its program.

    python -m shunted_jax.models.cost

The paper's "GFLOPs" are multiply-accumulates of the convolutions and matrix products for one image.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from shunted_jax.models.registry import create_model, list_models
from shunted_jax.models.shunted import ShuntedTransformer


def count_parameters(model: ShuntedTransformer) -> int:
    """Returns how many numbers the trainable parameters hold."""
    variables = _shapes(model, _image(model, model.min_image_size))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def count_macs(model: ShuntedTransformer, image_size: int) -> int:
    """Returns the multiply-accumulates of convolutions and matrix products for one square image.

    Args:
        model: the network.
        image_size: pixels on each side.
    """
    model = model.clone(compute="reference")  # in which every convolution is one
    image = _image(model, image_size)
    variables = _shapes(model, image)
    jaxpr = jax.make_jaxpr(model.apply)(variables, image)
    return sum(times * _macs(equation) for times, equation in all_equations(jaxpr.jaxpr))


def _shapes(model: ShuntedTransformer, image: jax.ShapeDtypeStruct) -> Any:
    # A key made outside of the trace would start the backend, which takes a GPU's memory.
    return jax.eval_shape(lambda image: model.init(jax.random.key(0), image), image)


def _image(model: ShuntedTransformer, side: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, side, side, model.in_channels), jnp.float32)


def all_equations(jaxpr: core.Jaxpr, times: int = 1) -> Iterator[tuple[int, core.JaxprEqn]]:
    """Yields each equation, inner ones too, with how many times it is computed."""
    for equation in jaxpr.eqns:
        yield times, equation
        in_a_loop = equation.params["length"] if equation.primitive.name == "scan" else 1
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if isinstance(inner, core.Jaxpr):
                yield from all_equations(inner, times * in_a_loop)


def _macs(equation: core.JaxprEqn) -> int:
    out = math.prod(equation.outvars[0].aval.shape)
    if equation.primitive.name == "dot_general":
        (contracting, _), _ = equation.params["dimension_numbers"]
        return out * math.prod(equation.invars[0].aval.shape[axis] for axis in contracting)
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        out_axis = equation.params["dimension_numbers"].rhs_spec[0]
        return out * math.prod(kernel) // kernel[out_axis]
    return 0


def main() -> None:
    """Prints a table of the published variants."""
    print("| model | parameters | GMACs at 224 |\n|---|---|---|")
    for name in reversed(list_models()):
        model = create_model(name)
        gmacs = count_macs(model, 224) / 1e9
        print(f"| `{name}` | {count_parameters(model):,} | {gmacs:.2f} |")


if __name__ == "__main__":
    main()
