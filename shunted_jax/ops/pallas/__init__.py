"""TPU kernels of the attention and of the feed-forward."""
