"""What the terminal can show, if there is one."""

import os
import sys


def on_terminal() -> bool:
    """Returns whether there is a terminal that can show a progress bar."""
    # A terminal that does not know its size, as some job runners give, shows no bar.
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).lines > 0
