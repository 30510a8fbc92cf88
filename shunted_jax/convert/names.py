"""What a tensor is called: from the names in people's files to the published ones."""

import re

from shunted_jax.names import readable

# Every Shunted Transformer has this tensor, and hardly anything else does.
LANDMARK = "patch_embed1.conv.0.weight"
COUNTER = ".num_batches_tracked"

# What wraps a module and puts its name between: DataParallel, torch.compile, FSDP.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# An averaged model's count of its averages stands beside the tensors.
AVERAGES = "n_averaged"

# Characters of a name that a message has room for; no layer's is half as long.
_MOST_SHOWN = 200

_RENAMES = [
    # The Towhee port flattens the module around the feed-forward's depthwise convolution.
    (re.compile(r"\.mlp\.dwconv\.(weight|bias)$"), r".mlp.dwconv.dwconv.\1"),
    # Paddle's batch norm, and the patch embeddings of its ports.
    (re.compile(r"\._mean$"), ".running_mean"),
    (re.compile(r"\._variance$"), ".running_var"),
    (re.compile(r"(^|\.)patch_embedding(\d)\."), r"\1patch_embed\2."),
    (re.compile(r"(^|\.)(patch_embed\d)\.patch_embed\."), r"\1\2.proj."),
]


def shown(name: str) -> str:
    """Returns a stranger's name as a message may have it: without a line's end, and not long."""
    name = name if len(name) <= _MOST_SHOWN else f"{name[:_MOST_SHOWN]}..."
    return readable(name)


def unwrapped(name: str) -> str:
    """Returns a name without what wraps modules, wherever in it that stands."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def published(name: str) -> str:
    """Returns the published name of a tensor, still behind its prefix."""
    name = unwrapped(name)
    for pattern, ours in _RENAMES:
        name = pattern.sub(ours, name)
    return name


def is_landmark(name: str) -> bool:
    """Whether a name is that of the tensor that tells a Shunted Transformer."""
    ours = published(name)
    return ours == LANDMARK or ours.endswith(f".{LANDMARK}")
