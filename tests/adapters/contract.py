"""What a test says that fails because a package is no longer what an adapter takes it for."""

import contextlib
import functools
import importlib.metadata

import pytest


def seen_with(package: str, version: str, what: str):
    """Decorates a test of what `package` did when it was looked at.

    Args:
        package: as it is named in requirements.txt.
        version: the one that was looked at.
        what: the package does, in a sentence.
    """

    def decorate(test):
        @functools.wraps(test)
        def checked(*arguments, **named):
            try:
                return test(*arguments, **named)
            except (Exception, pytest.fail.Exception) as error:
                raise AssertionError(
                    f"{package} {installed(package)} is another than was seen. With {version}, "
                    f"{what}. See its file in shunted_jax/adapters and docs/adapters.md. "
                    f"{type(error).__name__}: {error}"
                ) from error

        checked.seen = package, version
        return checked

    return decorate


def error_of(call, *arguments, **named) -> Exception:
    """Returns what a call raises, of whatever kind and words."""
    try:
        call(*arguments, **named)
    except Exception as error:
        return error
    pytest.fail(f"{call} raised nothing")


def installed(package: str) -> str:
    """Returns the version that there is; in words if there is none."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return "(not installed)"
