"""The card of weights that people share: README.md, with the header that a hub reads."""

from typing import Any

from shunted_jax.checkpoints import Metadata
from shunted_jax.models import ShuntedTransformer
from shunted_jax.models.architecture import variant_of

_CARD = """\
---
library_name: shunted-jax
pipeline_tag: {pipeline_tag}
tags:
- {pipeline_tag}
- shunted-transformer
- jax
- flax
# License: which one these weights are under, only who shares them can say. Put it here, as in
# license: apache-2.0
---

# {title}

The Shunted Transformer ([arXiv 2111.15193](https://arxiv.org/abs/2111.15193)) in JAX and Flax.

| | |
|---|---|
| network | {network} |
| parameters | {parameters:,} |
| classes | {classes} |
| images | {channels} channels, normalised as in training, any size from {min_size} pixels up |

```python
import shunted_jax

model, variables = shunted_jax.load_pretrained("hf://ORG/REPO")  # or this folder's path
{result} = model.apply(variables, images)  # [batch, height, width, channels]
```

`model.safetensors` has the names and layouts of the published PyTorch code.

## Where the weights come from

{origin}

## License and data

To be filled in by who shares these weights: their license, and the data that they were trained on.

## Citation

```bibtex
@inproceedings{{ren2022shunted,
  title     = {{Shunted Self-Attention via Multi-Scale Token Aggregation}},
  author    = {{Ren, Sucheng and Zhou, Daquan and He, Shengfeng and Feng, Jiashi and
               Wang, Xinchao}},
  booktitle = {{CVPR}},
  year      = {{2022}}
}}
```
"""


def card(
    model: ShuntedTransformer, parameters: int, meta: Metadata, step: int | None, ema: bool
) -> str:
    """Returns the text of a card.

    Args:
        model: the network.
        parameters: how many it has.
        meta: what its checkpoint says of itself.
        step: of the run that it was saved in; None where there was none.
        ema: whether the parameters are a run's moving average.
    """
    variant, classes = variant_of(model), model.num_classes
    widths = {name: getattr(model, name) for name in ("depths", "embed_dims", "num_heads")}
    names = ", named in `config.json` (`label_names`)" if meta.class_names else ""
    return _CARD.format(
        pipeline_tag="image-classification" if classes else "image-feature-extraction",
        title=variant or "A Shunted Transformer",
        network=f"`{variant}`" if variant else _in_words(widths),
        parameters=parameters,
        classes=f"{classes:,}{names}" if classes else "none: a backbone, which gives features",
        channels=model.in_channels,
        min_size=model.min_image_size,
        result="logits" if classes else "features",
        origin=_origin(meta, step, ema),
    )


def _origin(meta: Metadata, step: int | None, ema: bool) -> str:
    if meta.conversion is not None:
        source = meta.conversion.source
        repository = source.get("repository")
        of = f" of {_code(repository)} at {_code(source.get('revision'))}" if repository else ""
        return (
            f"Converted from {_code(source.get('name'))}{of}, with the sha256 "
            f"{_code(source.get('sha256'))}."
        )
    if meta.run is None:
        return "Their checkpoint does not say."
    scores = ", ".join(f"{name} {value:.4f}" for name, value in sorted(meta.run.metrics.items()))
    return (
        f"Trained with shunted-jax, {step or meta.run.step:,} steps"
        + (", the moving average of the parameters" if ema else "")
        + (f". The scores of its evaluation: {scores}." if scores else ".")
    )


def _in_words(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in fields.items())


def _code(text: Any) -> str:
    """Returns a stranger's text so that it cannot be taken for anything else in Markdown."""
    return "`" + " ".join(str(text).replace("`", "'").split()) + "`"
