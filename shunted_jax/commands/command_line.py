"""What `train.py` needs around its flags: clear words for what was mistyped, readable logs."""

import dataclasses
import functools
import logging
import sys
import traceback
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import jax
import tqdm
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from shunted_jax.adapters.orbax import hush_failed_saves
from shunted_jax.config import Config, Section, no_field, resolve
from shunted_jax.errors import LockError, PreemptedError, RunError, UserError
from shunted_jax.resources import refusal
from shunted_jax.storage import as_path
from shunted_jax.terminal import print_any_name
from shunted_jax.training.devices import distributed


def run(main: Callable[[Sequence[str]], None], default_config: Path) -> NoReturn:
    """Parses the flags, calls `main` and exits.

    Args:
        main: takes what is left of the command line.
        default_config: stands in where there is no --config.

    What a user got wrong ends in a sentence and status 2, what the system refuses or a loss that is
    not finite in one and status 1, Ctrl-C in one and status 130, SIGTERM in one and status 143; any
    other exception keeps its traceback.

    For this process, it also quiets what libraries repeat of a failed save: `hush_failed_saves`
    says how.
    """
    hush_failed_saves()
    print_any_name()
    try:
        app.run(main, flags_parser=functools.partial(_parse_with_none, default_config))
    except UserError as error:
        _leave(str(error), 2)
    except (LockError, FloatingPointError) as error:
        _leave(str(error), 1, distributed.leave_together)
    except RunError as error:
        _leave(str(error), 1)
    except PreemptedError as error:
        _leave(str(error), 143, distributed.leave_together)
    except KeyboardInterrupt:
        _leave("interrupted", 130)
    except Exception as error:
        if isinstance(error, OSError) and (refused := refusal(error)) is not None:
            _leave(str(refused), 1)
        if not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        distributed.leave(1)


def config_from_flag(name: str) -> tuple[Config, str]:
    """Returns the checked configuration of a parsed config-file flag, and its file's stem.

    Raises:
        UserError: the file is not there or is not a configuration, or the configuration cannot be
            run.
    """
    path = config_flags.get_config_filename(flags.FLAGS[name])
    if not Path(path).is_file():
        raise UserError(
            f"--{name}={path}: there is no such file; configs/ has those that come with this"
        )
    config = flags.FLAGS[name].value
    if not isinstance(config, Config):
        raise UserError(
            f"--{name}={path}: its get_config() returned a {type(config).__name__}, and must "
            "return a shunted_jax.config.Config"
        )
    return resolve(config), Path(path).stem


def log_to_stderr() -> None:
    """Sends the package's own log to stderr, and of other libraries what is a warning or worse.

    This sets the handlers of the package's logger, in place of those it has, and absl's verbosity.
    Where several processes train as one, call it again once they are connected: from then on the
    first one speaks, and the others only of what goes wrong, under their number.
    """
    absl_logging.set_verbosity(absl_logging.WARNING)
    on_terminal = sys.stderr.isatty()
    handler = _BesideTheBar()
    text, level = "%(message)s" if on_terminal else "%(asctime)s %(message)s", logging.INFO
    if jax.distributed.is_initialized() and not distributed.is_first_process():
        text, level = f"process {jax.process_index()}: {text}", logging.WARNING
    handler.setFormatter(logging.Formatter(text, "%H:%M:%S"))
    package = logging.getLogger("shunted_jax")
    package.handlers = [handler]
    package.setLevel(level)
    package.propagate = False


class _BesideTheBar(logging.StreamHandler):
    """Writes lines above a progress bar, if there is one, instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.tqdm.write(self.format(record), file=self.stream)
        except Exception:
            self.handleError(record)


def without_flag(name: str, argv: Sequence[str]) -> list[str]:
    """Returns a command line without a flag and its value."""
    kept, arguments = [], iter(argv)
    for argument in arguments:
        flag, equals, _ = argument.partition("=")
        if flag not in (f"--{name}", f"-{name}"):
            kept.append(argument)
        elif not equals:
            next(arguments, None)  # the value is an argument of its own
    return kept


def split_off_none(argv: Sequence[str]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Returns a command line without the fields that it sets to None, and these, as paths.

    The flags of ml_collections would take the word for a text or for a number that is none.
    """
    kept, fields = [], []
    for argument in argv:
        flag, _, value = argument.partition("=")
        path = tuple(flag.lstrip("-").split(".")[1:])
        if value in ("None", "none") and _may_be_none(path):
            fields.append(path)
        else:
            kept.append(argument)
    return kept, fields


def _may_be_none(path: Sequence[str]) -> bool:
    kind = Config
    for name in path:
        kind = typing.get_type_hints(kind).get(name) if dataclasses.is_dataclass(kind) else None
    return type(None) in typing.get_args(kind)


def _parse_with_none(default_config: Path, argv: Sequence[str]) -> Sequence[str]:
    argv, fields = split_off_none(argv)
    rest = _parse_flags(default_config, argv)
    config = flags.FLAGS["config"].value
    if isinstance(config, Config):
        for *sections, name in fields:
            setattr(functools.reduce(getattr, sections, config), name, None)
    return rest


def _parse_flags(default_config: Path, argv: Sequence[str]) -> Sequence[str]:
    # Not the flag's own default, which ml_collections would read, with what was set on the command
    # line, while the flag is being defined: before anything here could explain a mistake.
    named = any(argument.split("=")[0] in ("--config", "-config") for argument in argv)
    argv = [_with_home(argument) for argument in argv]
    try:
        return flags.FLAGS(argv if named else [argv[0], f"--config={default_config}", *argv[1:]])
    except flags.Error as error:
        raise UserError(str(error)) from error
    except (KeyError, AttributeError) as error:
        # ml_collections raises these for a field that does not exist, without the nearest name.
        raise UserError(unknown_field(argv) or str(error)) from error


def _with_home(argument: str) -> str:
    # The file is read while the flags are parsed; other paths come in where they are used.
    flag, _, value = argument.partition("=")
    if flag not in ("--config", "-config") or not value.startswith("~"):
        return argument
    return f"{flag}={as_path(value)}"


def unknown_field(argv: Sequence[str]) -> str | None:
    """Returns what is wrong with the first `--config.FIELD` that does not exist, else None."""
    for argument in argv[1:]:
        path = argument.lstrip("-").split("=")[0].split(".")
        section: object = Config()
        for depth, name in enumerate(path[1:], start=1):
            if not isinstance(section, Section):
                return f"--{'.'.join(path)}: {'.'.join(path[:depth])} has no fields of its own"
            if problem := no_field(type(section), name):
                return f"--{'.'.join(path)}: {'.'.join(path[:depth])} has {problem}"
            section = getattr(section, name)
    return None


def _leave(
    message: str, status: int, leave: Callable[[int], NoReturn] = distributed.leave
) -> NoReturn:
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    leave(status)
