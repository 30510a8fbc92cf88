"""`config.json`: what a folder says of its network, besides the tensors.

Under `shunted_jax` this program keeps what a checkpoint's metadata have. The fields beside it are
those that timm writes, for tools that know those. A stranger's file may have the network's fields
at its top, as `huggingface_hub`'s mixin writes them.
"""

import dataclasses
from pathlib import Path
from typing import Any

from shunted_jax.checkpoints import Metadata
from shunted_jax.convert.names import shown
from shunted_jax.errors import UserError
from shunted_jax.hub.json_file import read_object
from shunted_jax.models import ShuntedTransformer, list_models
from shunted_jax.models.architecture import architecture_of, variant_of

NAME = "config.json"
_OWN = "shunted_jax"


@dataclasses.dataclass(frozen=True)
class ConfigFile:
    """What was read.

    Attributes:
        path: of the file.
        values: all that it holds.
    """

    path: Path
    values: dict[str, Any]

    @property
    def own(self) -> dict[str, Any] | None:
        """What this program wrote; None in a stranger's file."""
        own = self.values.get(_OWN)
        return own if isinstance(own, dict) else None

    @property
    def num_heads(self) -> tuple[int, ...] | None:
        """Attention heads of each stage, which tensors do not show; None where it does not say."""
        heads = next((part["num_heads"] for part in self._parts() if "num_heads" in part), None)
        whole = isinstance(heads, list) and all(type(count) is int and count > 0 for count in heads)
        return tuple(heads) if whole else None

    @property
    def class_names(self) -> list[str] | None:
        """What each label stands for, from timm's field or transformers'; None if it says none."""
        names = self.values.get("label_names")
        if isinstance(names, list) and names:
            return [str(name) for name in names]
        by_label = self.values.get("id2label")
        labels = (
            [str(label) for label in range(len(by_label))] if isinstance(by_label, dict) else []
        )
        if labels and set(labels) == set(by_label):
            return [str(by_label[label]) for label in labels]
        return None

    def check(self, model: ShuntedTransformer, but: tuple[str, ...] = ()) -> None:
        """Compares what it says with the network that the tensors are of.

        Args:
            model: that network.
            but: fields that may differ.

        Raises:
            UserError: they contradict each other; all contradictions are listed.
        """
        found = architecture_of(model)
        wanted = [name for name in found if name not in but]
        pairs = [(n, part[n], found[n]) for part in self._parts() for n in wanted if n in part]
        variant, named = variant_of(model) or "custom", self.values.get("architecture")
        if named in list_models():
            pairs.append(("architecture", named, variant))
        if self.class_names and "num_classes" not in but:
            pairs.append(("names of classes", len(self.class_names), model.num_classes))
        if lines := [
            f"\n  {name}: {shown(str(value))} in {NAME}, {other} in the tensors"
            for name, value, other in pairs
            if value != other
        ]:
            raise UserError(
                f"{self.path} is not of the weights beside it: correct it, or give the file of "
                f"weights itself, which is read without it:{''.join(lines)}"
            )

    def metadata(self) -> Metadata:
        """Returns what a checkpoint would say of itself.

        Raises:
            UserError: it does not say that, or a newer program wrote it.
        """
        own = {name: value for name, value in (self.own or {}).items() if name != "class_names"}
        try:
            meta = Metadata.from_json(own | {"class_names": self.class_names}, self.path)
            origin = meta.conversion
            parts = [meta.model] + ([origin.source, origin.num_batches_tracked] if origin else [])
        except (TypeError, AttributeError) as error:
            raise UserError(f"{self.path} is damaged ({error}): take another copy of it") from error
        if not all(isinstance(part, dict) for part in parts):
            raise UserError(f"{self.path} is damaged: take another copy of it")
        return meta

    def _parts(self) -> list[dict[str, Any]]:
        """Returns what may have a network's fields, JSON's values, among others."""
        model = (self.own or {}).get("model")
        return [*([model] if isinstance(model, dict) else []), self.values]


def read_config(folder: Path) -> ConfigFile | None:
    """Returns a folder's `config.json`; None where there is none.

    Raises:
        UserError: it holds no JSON object.
    """
    path = folder / NAME
    return ConfigFile(path, read_object(path)) if path.exists() else None


def config_values(model: ShuntedTransformer, meta: Metadata) -> dict[str, Any]:
    """Returns what to write into `config.json`.

    Args:
        model: the network.
        meta: what its checkpoint says; what there is of a run in it, such as its configuration with
            this machine's paths, is left out.
    """
    own = dataclasses.replace(meta, model=architecture_of(model), class_names=None, run=None)
    variant, names = variant_of(model), meta.class_names
    return {
        **({"architecture": variant} if variant else {}),
        "num_classes": model.num_classes,
        "num_features": model.embed_dims[-1],
        **({"label_names": list(names)} if names else {}),
        _OWN: own.to_json(),
    }
