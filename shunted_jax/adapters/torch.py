"""torch: the words by which `torch.load(weights_only=True)` refuses to run a file's program."""

import re


def refused_global(error: Exception) -> str | None:
    """Returns the function or class that a file asked for; None if the error says none.

    `torch.serialization.get_unsafe_globals_in_checkpoint` has no answer for the older of its two
    kinds of file.
    """
    match = re.search(r"GLOBAL ([\w.]+)", str(error))
    return match and match[1]
