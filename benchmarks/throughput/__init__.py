"""Speed next to PyTorch's, and the time to compile."""
