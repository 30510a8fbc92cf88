"""What stands in place of the objects that a pickle asks for, and the two ways of refusing one."""

import dataclasses
import reprlib
from typing import Any

from shunted_jax.convert.names import shown

# Modules and functions that run something. Nothing here would run them: that a file names them is
# what its owner should hear.
_MODULES = {
    "os",
    "posix",
    "nt",
    "subprocess",
    "sys",
    "runpy",
    "pty",
    "socket",
    "shutil",
    "pdb",
    "bdb",
}
_MODULES |= {"importlib", "ctypes", "webbrowser", "codeop", "multiprocessing", "asyncio", "pickle"}
_MODULES |= {"_pickle", "cPickle", "timeit", "cProfile", "requests", "urllib", "ftplib", "smtplib"}
_MODULES |= {"pip", "ensurepip", "popen2"}
_BUILTINS = {"exec", "eval", "compile", "open", "execfile", "__import__", "input", "breakpoint"}
_BUILTINS |= {"apply", "globals", "locals", "vars", "setattr", "delattr", "exit", "quit", "help"}
MOST_AXES = 64  # of an array, as numpy has them
# Of what a stranger made a few parts are shown: the whole of it can be without end.
_SHORT = reprlib.Repr()
_SHORT.maxtuple, _SHORT.maxlevel = 8, 3
_FORMER = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class DamagedError(ValueError):
    """The file is not what a program wrote: cut, altered, or made to mislead."""


class UnreadableError(ValueError):
    """The file may be sound, and is not read; the message goes on after its name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Global:
    """A function or class that a pickle names: two words, and never the thing itself."""

    module: str
    name: str

    def __str__(self) -> str:
        return shown(f"{self.module}.{self.name}")

    @property
    def runs_code(self) -> bool:
        """Whether it is known for running what a stranger wants run."""
        if self.module == "builtins":
            return self.name.partition(".")[0] in _BUILTINS
        return self.module.partition(".")[0] in _MODULES


def in_short(value: Any) -> str:
    """Returns what a message says of data from a pickle: its beginning, in a few words."""
    return _SHORT.repr(value)[:200]


def no_storage(named: Any) -> DamagedError:
    """Returns the error for what a pickle names beside it, and is no storage of tensors."""
    return DamagedError(
        f"its pickle names something beside it that is no storage: {in_short(named)}"
    )


def high_byte_first() -> UnreadableError:
    """Returns the error for a file from a machine with the other order of bytes."""
    return UnreadableError(
        "was written on a machine that puts the high byte first, which is not read: load it there "
        "with torch.load, and save it again with safetensors.torch.save_file"
    )


def named(module: str, name: str) -> Global:
    """Returns the global of Python 3 that a pickle means."""
    return Global(_FORMER.get(module, module), name)


def is_size(value: Any) -> bool:
    """Whether a length, a stride or an offset can be so: sizes beyond are slow to multiply."""
    return type(value) is int and 0 <= value < 1 << 62


def plain_key(key: Any) -> Any:
    """Returns what stands for a key in a dict.

    Keys are hashed, and what a stranger made can take for ever to hash: tuples in tuples, numbers
    that were chosen to collide. Those become records, which are hashed by where they lie.
    """
    if isinstance(key, (list, dict)):
        raise DamagedError("its pickle has a container for a key")
    if isinstance(key, tuple) or (isinstance(key, int) and abs(key) >= 1 << 60):
        return Record(Global("builtins", type(key).__name__), (key,))
    return key


class Record:
    """An object that was not made: what it was to be made by, and from what.

    Attributes:
        made_by: the class or function, or a record where the pickle made that, too.
        arguments: of the call.
        state: what the object was to be given afterwards: a dict of its attributes, as a rule.
        items: what was appended to it.
        pairs: what was set in it, as in a dict.
    """

    __slots__ = ("arguments", "items", "made_by", "pairs", "state")

    def __init__(self, made_by: "Global | Record", arguments: tuple):
        self.made_by, self.arguments = made_by, arguments
        self.state: Any = None
        self.items: list | None = None
        self.pairs: dict | None = None

    @property
    def name(self) -> str:
        """The name of the class or function; of the first one, where one made the other."""
        made_by = self.made_by
        for _ in range(100):
            if not isinstance(made_by, Record):
                break
            made_by = made_by.made_by
        return str(made_by) if isinstance(made_by, Global) else "what another object makes"
