"""A state dict in memory to a network, in one line."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import traverse_util

from shunted_jax.convert.state_dict import Variables, convert_state_dict
from shunted_jax.models import ShuntedTransformer
from shunted_jax.models.variables import with_other_head


def from_torch(
    state_dict: Mapping[str, Any],
    *,
    model: str | None = None,
    num_heads: tuple[int, ...] | None = None,
    from_key: str | None = None,
    prefix: str | None = None,
    drop_head: bool = False,
    ignore_unexpected: bool = False,
    num_classes: int | None = None,
    key: jax.Array | None = None,
) -> tuple[ShuntedTransformer, Variables]:
    """Turns a PyTorch state dict into a Flax module and its variables, without PyTorch.

    Args:
        state_dict: names to arrays (in PyTorch: `{k: v.numpy() for k, v in
            net.state_dict().items()}`), under the published names or one of the variations that
            `names.py` knows.
        model: the variant that it must be, such as "shunted_t"; None finds out.
        num_heads: attention heads of each stage; None takes the variant's, or channels / 32.
        from_key: what the state dict stands under, where the mapping holds several: "model_ema".
        prefix: of the network's tensors, where the state dict holds several networks.
        drop_head: leave the classifier out.
        ignore_unexpected: leave out tensors that are not the network's instead of refusing them.
        num_classes: None keeps the head as it is; another number than the state dict's, or any
            with `drop_head`, gives a freshly initialised head, with a warning; 0 leaves it out.
        key: decides a new head, which is the one that `model.init(key, images)` draws; None takes
            `jax.random.key(0)`.

    Returns:
        The module and {"params", "batch_stats"} of float32 numpy arrays.

    Raises:
        UserError: (a ValueError) tensors missing, left over or of a wrong shape; all of them are
            listed.
    """
    conversion = convert_state_dict(
        state_dict,
        model=model,
        num_heads=num_heads,
        from_key=from_key,
        prefix=prefix,
        drop_head=drop_head,
        ignore_unexpected=ignore_unexpected,
    )
    network, variables = conversion.model, conversion.variables
    if num_classes is None or num_classes == network.num_classes:
        return network, variables
    wanted = network.clone(num_classes=num_classes)
    leaves = with_other_head(
        traverse_util.flatten_dict(variables), wanted, network.num_classes, "the state dict", key
    )
    return wanted, traverse_util.unflatten_dict(leaves)
