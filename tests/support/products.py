"""The products of float32 in a program, and how precise they are asked to be."""

import re

_PRODUCT = re.compile(r"stablehlo\.(?:dot_general|convolution)\b.* : \((.*)\) -> ")
_PRECISION = re.compile(r"\b(DEFAULT|HIGH|HIGHEST)\b")


def float32_precisions(lowered):
    """Returns the least precision that each product with an operand of float32 asks for.

    Args:
        lowered: a `jax.stages.Lowered`, for whatever platform.
    """
    found = []
    for line in lowered.as_text().splitlines():
        if (product := _PRODUCT.search(line)) and "xf32>" in product[1]:
            asked = _PRECISION.findall(line)
            assert len(asked) in (0, 2), line
            found.append(min(asked or ["DEFAULT"], key=["DEFAULT", "HIGH", "HIGHEST"].index))
    return found
