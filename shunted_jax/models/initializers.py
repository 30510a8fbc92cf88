"""Initial values of the published code: every kernel's distribution, said once.

Biases start at 0 and norm scales at 1, which are Flax's own defaults.
"""

from flax.linen import initializers

# The published truncation lies at an absolute +-2, a hundred standard deviations out: a plain
# normal.
linear_kernel_init = initializers.normal(stddev=0.02)

# std = sqrt(2 / fan_out), fan_out = kernel area x output channels / groups.
conv_kernel_init = initializers.variance_scaling(2.0, "fan_out", "normal")

# A depthwise kernel [3, 3, 1, channels] has one output channel a group. Naming the axis of length 1
# as the output axis gives its fan_out of 9; read as a plain convolution's it would be 9 x channels.
depthwise_kernel_init = initializers.variance_scaling(
    2.0, "fan_out", "normal", in_axis=-1, out_axis=-2
)


def initializer_at(path: tuple[str, ...], rank: int) -> initializers.Initializer:
    """Returns what initialises a variable of the network, of the modules above or of Flax's norms.

    Args:
        path: names of modules, then the variable's.
        rank: of the variable.
    """
    module, name = path[-2:]
    if name != "kernel":
        return initializers.ones if name in ("scale", "var") else initializers.zeros
    if rank == 2:
        return linear_kernel_init
    return (
        depthwise_kernel_init if module in ("depthwise", "local_enhancement") else conv_kernel_init
    )
