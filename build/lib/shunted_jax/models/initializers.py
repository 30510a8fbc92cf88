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
