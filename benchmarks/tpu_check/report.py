"""The check's result as one block of Markdown."""

from benchmarks.tpu_check.rows import FAILED, Row

_FENCE = "```"


def block(rows: list[Row], small: bool) -> str:
    """Returns all rows as a fenced block, with what sums them up in front.

    Args:
        rows: of all parts, the device's first.
        small: say that this was a trial of the check and no check.
    """
    device, *others = rows
    judged = [row for row in others if row.verdict]
    counts = [f"{sum(row.verdict == v for row in judged)} {v}" for v in ("ok", "wrong", FAILED)]
    trial = " --small: a trial of the check, which says nothing of a TPU" if small else ""
    lines = [
        f"tpu_check{trial}",
        f"{device.case}: {device.text}",
        f"checks: {', '.join(counts)}",
        *ratios(others),
        "",
        "| part | case | verdict | found |",
        "|---|---|---|---|",
        *(_line(row) for row in others),
    ]
    return "\n".join([_FENCE, *lines, _FENCE])


def ratios(rows: list[Row]) -> list[str]:
    """Returns, for each mode that both forms were timed in, how they compare."""
    times = {
        tuple(row.case.split(", ")): row.figures["milliseconds"]
        for row in rows
        if row.part == "steps" and "milliseconds" in row.figures
    }
    return [
        f"{mode}: the time with auto over that with pallas is {time / times[mode, 'pallas']:.2f}"
        for (mode, compute), time in times.items()
        if compute == "auto" and (mode, "pallas") in times
    ]


def _line(row: Row) -> str:
    # A bar would end the column.
    cells = (cell.replace("|", "/") for cell in (row.part, row.case, row.verdict, row.text))
    return f"| {' | '.join(cells)} |"
