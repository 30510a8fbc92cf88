"""How much of a batch goes through an operation at a time, so that a CPU's cache holds it."""

from shunted_jax.models.on_each_device import batch_devices


def at_a_time(count: int, size: int, limit: int) -> int:
    """Returns a divisor of `count`: as many as are together not beyond a limit, one at least.

    A batch that devices share is left whole: a loop over it would bring each part to all of them.

    Args:
        count: of images, or of other things.
        size: of one, in numbers.
        limit: of those that go through at a time, likewise.
    """
    if batch_devices() > 1:
        return count
    fitting = min(count, max(1, limit // size))
    return next(number for number in range(fitting, 0, -1) if count % number == 0)
