"""TPU kernels of the attention and of the feed-forward, for compute="pallas".

The kernels were compiled for TPUs and checked in Pallas's interpreter. They have not run on a TPU:
what is known is how many bytes they move, not how long they take. So nobody gets them who did not
ask for them. docs/performance.md has what they save.
"""

from shunted_jax.ops.pallas.attention import attention
from shunted_jax.ops.pallas.feed_forward import feed_forward
from shunted_jax.ops.pallas.limits import interpreted, refuse_dropout

__all__ = ["attention", "feed_forward", "interpreted", "refuse_dropout"]
