"""One way to show the names of classes and files: as text in a line, whatever bytes they are of.

A name on disk need not be UTF-8, as after unpacking a Windows archive, and may hold a line's end.
Python keeps such bytes as surrogates, which no file, no font and no terminal takes.
"""

import re

# Control characters, separators of lines, and surrogates.
_NOT_SHOWN = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]")


def readable(name: str) -> str:
    r"""Returns a name with what cannot be shown as Python writes it: `\n`, or `\xe9` for a byte."""
    return _NOT_SHOWN.sub(_escaped, name)


def _escaped(match: re.Match) -> str:
    number = ord(match[0])
    if 0xDC80 <= number <= 0xDCFF:  # a byte that was not UTF-8
        return f"\\x{number - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode()
