"""What is wrong with an image, for whoever names it or goes on without it."""


class BadImageError(ValueError):
    """An image file that cannot be read, or that cannot be decoded in full; it says why."""
