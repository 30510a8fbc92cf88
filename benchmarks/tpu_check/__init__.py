"""Whether the TPU kernels are right and fast: for somebody who has a TPU."""
