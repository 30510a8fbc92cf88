"""What a check found: a row of the report, whether it went well, went wrong or never came about."""

import dataclasses
from collections.abc import Callable

from shunted_jax.errors import in_a_line

# The check's parts in their order. The process that starts them knows their names and no more: it
# leaves the TPU to them.
PARTS = ("device", "attention", "feed_forward", "golden", "steps_auto", "steps_pallas")
FAILED = "failed"


@dataclasses.dataclass
class Row:
    """One row.

    Attributes:
        part: of the check, one of `PARTS`, or the steps'.
        case: what was looked at.
        verdict: "ok" where it is as it should be, "wrong" where not, "failed" where nobody knows,
            "" for what is told and not judged.
        text: what was found, or why nothing was.
        figures: the same as numbers, for the JSON.
    """

    part: str
    case: str
    verdict: str
    text: str
    figures: dict[str, float] = dataclasses.field(default_factory=dict)


def checked(part: str, case: str, check: Callable[[], tuple[bool, str]]) -> Row:
    """Returns the row of a check, which says whether all is well and what it saw.

    Whatever it raises costs this row alone.
    """
    return attempted(part, case, lambda: Row(part, case, *_judged(*check())))


def attempted(part: str, case: str, make: Callable[[], Row]) -> Row:
    """Returns the row that `make` makes, or one that says why there is none."""
    try:
        return make()
    except Exception as error:  # a compiler's, a device's: of any kind
        return Row(part, case, FAILED, in_a_line(error))


def _judged(is_well: bool, text: str) -> tuple[str, str]:
    return "ok" if is_well else "wrong", text
