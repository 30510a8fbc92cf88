"""The log and the JSON of a check, whole at any time."""

import dataclasses
import json
from pathlib import Path

from benchmarks.budget import Budget
from benchmarks.throughput.outcome import Outcome
from benchmarks.throughput.report import lines, summarise, table


class Record:
    """Collects figures; `check.json` and `check.log` in a folder have all so far."""

    def __init__(self, folder: Path, budget: Budget):
        """Begins both files anew.

        Args:
            folder: where they lie.
            budget: whose clock is shown and which knows what was left out.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._json, self._budget = folder / "check.json", budget
        self._log = (folder / "check.log").open("w", buffering=1)
        self._rows: list[dict] = []
        self._outcomes: list[Outcome] = []
        self.on_cpu = False

    def say(self, text: str) -> None:
        """Prints a line, with the seconds so far, and logs it."""
        for out in (None, self._log):
            print(f"[{self._budget.elapsed():4.0f} s] {text}", file=out, flush=True)

    def add(self, row: dict) -> None:
        """Keeps a row of figures and says it, but for long ones, which the JSON has."""
        self._rows.append(row)
        self.on_cpu |= row.get("platform") == "cpu"
        shown = {key: value for key, value in row.items() if not isinstance(value, list)}
        self.say(" ".join(f"{key}={_text(value)}" for key, value in shown.items()))
        self._write()

    def fail(self, step: str, why: str, errors: str) -> None:
        """Keeps that a step failed; the log has the last lines that it wrote."""
        self.add({"step": step, "failed": why})
        self._log.write(errors)

    def add_outcome(self, outcome: Outcome) -> None:
        """Keeps a network's figures, again where more is known of it."""
        if not any(outcome is kept for kept in self._outcomes):
            self._outcomes.append(outcome)
        self._write()

    def finish(self) -> None:
        """Prints the networks' lines and table, and what was left out."""
        cases = self._cases()
        for text in (*map(lines, cases), table(cases) if cases else "no network ran"):
            self.say("\n" + text)
        if self._budget.left_out:
            self.say("left out: " + "; ".join(self._budget.left_out))
        self._write()
        self._log.close()

    def _cases(self) -> list[dict]:
        of_case: dict[str, list[Outcome]] = {}
        for outcome in self._outcomes:
            of_case.setdefault(str(outcome.case), []).append(outcome)
        return [summarise(outcomes) for outcomes in of_case.values()]

    def _write(self) -> None:
        found = {
            "rows": self._rows,
            "networks": [dataclasses.asdict(outcome) for outcome in self._outcomes],
            "cases": self._cases(),
            "left_out": self._budget.left_out,
            "seconds": self._budget.elapsed(),
        }
        beside = self._json.with_suffix(".part")
        beside.write_text(json.dumps(found, indent=1) + "\n")
        beside.replace(self._json)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
