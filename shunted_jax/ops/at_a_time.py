"""How much of a batch goes through an operation at a time, so that a CPU's cache holds it."""

from shunted_jax.ops.pallas.on_each_device import batch_devices

# A quarter of what would fit is still worth a loop; less is many small operations.
_FAR_FROM_FULL = 4


def at_a_time(count: int, size: int, limit: int) -> int:
    """Returns a divisor of `count`: as many as are together not beyond a limit, or one alone.

    Where only divisors far below the limit are left, as of a prime number, it is all. So it is of a
    batch that devices share, as a loop over it would bring each part to all of them, and of a
    dimension that has no number yet, in a program to be exported.

    Args:
        count: of images, or of other things.
        size: of one, in numbers.
        limit: of those that go through at a time, likewise.
    """
    if not isinstance(count, int) or count == 0 or batch_devices() > 1:
        return count
    fitting = min(count, max(1, limit // size))
    divisor = next(number for number in range(fitting, 0, -1) if count % number == 0)
    return divisor if divisor * _FAR_FROM_FULL >= fitting else count
