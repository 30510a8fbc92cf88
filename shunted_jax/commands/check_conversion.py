"""`convert_weights.py --check`: the file's own weights in PyTorch and ours, on photographs.

The PyTorch network is `convert/torch_reference.py`. It is given the names and arrays of the file,
and none of what the conversion made of them. What tensors do not show, such as the number of
attention heads, is the same on both sides: a comparison finds no mistake there.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from shunted_jax.convert.state_dict import Conversion
from shunted_jax.errors import RunError, UserError
from shunted_jax.models.architecture import architecture_of

# Of the spread of PyTorch's outputs; a sound conversion stays a hundred times below.
LIMIT = 1e-4
_SIZE = 224


def check(conversion: Conversion, photographs: Sequence[str] = ()) -> str:
    """Compares the two on photographs, in float32, and returns what came of it in a line.

    Args:
        conversion: what is to be written.
        photographs: image files; without any, the two that scikit-learn brings along.

    Raises:
        UserError: a package is missing, or a photograph cannot be read.
        RunError: they differ by more than `LIMIT`.
    """
    try:
        from shunted_jax.convert.torch_reference import outputs
    except ImportError:
        raise UserError(
            "--check runs the weights in PyTorch, too: pip install 'torch>=2.10' (the build for "
            "the CPU is enough)"
        ) from None
    model = conversion.model.clone(precision="highest")
    images = _batch(photographs, max(_SIZE, model.min_image_size), model.in_channels)
    theirs = outputs(architecture_of(model), conversion.cleaned.tensors, images)
    ours = np.asarray(jax.jit(model.apply)(conversion.variables, images))
    what = "logits" if model.num_classes else "pooled features"
    on = f"on {len(images)} photograph{'s' if len(images) > 1 else ''}"
    if not np.isfinite(theirs).all():
        raise RunError(f"{on}, PyTorch's own {what} are not finite: nothing was written")
    difference, spread = float(np.abs(ours - theirs).max()), float(np.ptp(theirs))
    of_spread = difference / spread if spread else float(difference > 0)
    said = f"{difference:.1e} from PyTorch's {what}, {of_spread:.1e} of their spread, {on}"
    if not of_spread <= LIMIT:  # nor if ours are not finite
        raise RunError(
            f"the conversion is up to {said}, more than {LIMIT:.0e} of it: nothing was written, "
            "and the fault is this program's"
        )
    return f"at most {said}"


def _batch(photographs: Sequence[str], size: int, channels: int) -> np.ndarray:
    """Returns float32 [number, size, size, channels], normalised as for evaluation."""
    try:
        from shunted_jax.config import DataConfig
        from shunted_jax.data.crops import CenterCrop
        from shunted_jax.data.decoding import BadImageError, EncodedImage

        paths = photographs or _sample_photographs()
    except ImportError as error:
        raise UserError(
            f"--check reads photographs, and {error.name} is missing: pip install "
            "'shunted-jax[train]'"
        ) from None
    crop, defaults, pixels = CenterCrop(size), DataConfig(), []
    for path in paths:
        try:
            pixels.append(crop(EncodedImage(Path(path).read_bytes())))
        except (OSError, BadImageError) as error:
            raise UserError(f"the photograph {path} cannot be read: {error}") from error
    normalised = (np.stack(pixels) / 255 - defaults.mean) / defaults.std
    # A network of other channels is given the three in turn.
    return normalised[..., np.arange(channels) % 3].astype(np.float32)


def _sample_photographs() -> list[str]:
    from sklearn.datasets import load_sample_images

    return load_sample_images().filenames
