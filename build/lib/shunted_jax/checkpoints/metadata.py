"""What a checkpoint says of itself: its `meta` item, the same for converted weights and for runs.

Format 2 says what the network is, and leaves out how it was computed. Format 1 had all of the
module's fields, and two shapes: one for converted weights and one for runs. Both are read.
"""

import dataclasses
from typing import Any

from shunted_jax.errors import UserError, wrong_names

# Raised when a reader must know the difference.
FORMAT_VERSION = 2

# What a run's checkpoints are ranked by, unless they say otherwise.
BEST_METRIC = "eval/top1"


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where converted weights come from.

    Attributes:
        variant: the published variant's name, or "custom".
        source: `name` and `sha256` of the file.
        unwrapped: the keys under which the file held the tensors.
        prefix: what was stripped from the tensors' names.
        renamed: how many tensors had another name than the published one.
        ignored: the names of tensors that were left out.
        head_left_out: whether the head was left out because that was asked for.
        num_batches_tracked: PyTorch's counters, for the way back.
    """

    variant: str
    source: dict[str, str]
    unwrapped: list[str]
    prefix: str
    renamed: int
    ignored: list[str]
    head_left_out: bool
    num_batches_tracked: dict[str, int]


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """Where a run stood; all that it needs to go on besides its arrays.

    Attributes:
        config: as `config.to_dict` returns it.
        step: the number of updates made.
        metrics: of an evaluation after `step`, by name; empty where there was none.
        best_by: which of the metrics the run's checkpoints are ranked by; the highest is best.
        data: what decides the batches to come.
        digest: a number for each array, to know a damaged one by.
        tally: sums over the steps since the last record.
        bad_images: how many were replaced up to here.
        git: the program's revision; None where it is not known.
        versions: of the packages that decide the result.
    """

    config: dict[str, Any]
    step: int = 0
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    best_by: str = BEST_METRIC
    data: dict[str, Any] | None = None
    digest: dict[str, int] | None = None
    tally: dict[str, Any] = dataclasses.field(default_factory=dict)
    bad_images: int = 0
    git: dict[str, Any] | None = None
    versions: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a checkpoint says of itself.

    Attributes:
        model: the network, as `models.architecture.architecture_of` returns it.
        class_names: what each label stands for; None where that is not known.
        conversion: of converted weights; None of a run's.
        run: of a run's checkpoint; None of converted weights.
    """

    model: dict[str, Any]
    class_names: list[str] | None = None
    conversion: Origin | None = None
    run: RunRecord | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values, of which `from_json` makes the same again."""
        values = {name: value for name, value in dataclasses.asdict(self).items() if value}
        return {"format_version": FORMAT_VERSION, "model": self.model} | values

    @classmethod
    def from_json(cls, values: dict[str, Any], where: Any) -> "Metadata":
        """Reads the JSON values of any format so far.

        Args:
            values: what the `meta` item holds.
            where: the checkpoint's folder, for messages.

        Raises:
            UserError: a newer program wrote them, or something is missing in them.
        """
        version = values.get("format_version", 1)
        if version > FORMAT_VERSION:
            raise UserError(
                f"{where} has format {version}, and this program reads formats up to "
                f"{FORMAT_VERSION}: a newer program wrote it, so update this one"
            )
        fields = {name: value for name, value in values.items() if name != "format_version"}
        fields = fields if version > 1 else _grouped(fields)
        parts = {"conversion": Origin, "run": RunRecord}
        for name, part in parts.items():
            if fields.get(name) is not None:
                fields[name] = _made(part, fields[name], f"{where} (its {name})")
        return _made(cls, fields, where)


def _grouped(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the flat values of format 1 in the groups of format 2."""
    grouped = dict(fields)
    for name, part, mark in (("conversion", Origin, "source"), ("run", RunRecord, "config")):
        if mark in fields:
            own = [field.name for field in dataclasses.fields(part) if field.name in fields]
            grouped[name] = {own_name: grouped.pop(own_name) for own_name in own}
    return grouped


def _made(kind: type, values: dict[str, Any], where: Any) -> Any:
    fields = dataclasses.fields(kind)
    needed = [
        field.name
        for field in fields
        if field.default is field.default_factory is dataclasses.MISSING
    ]
    known = [field.name for field in fields]
    if problem := wrong_names(values, known, needed, kind="fields"):
        raise UserError(f"the metadata of {where} cannot be read: {problem}")
    return kind(**values)
