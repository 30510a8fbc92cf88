"""The network that a configuration describes."""

import jax.numpy as jnp

from shunted_jax.config import Config
from shunted_jax.errors import UserError
from shunted_jax.models import ShuntedTransformer, create_model, list_models


def make_classifier(config: Config, num_classes: int) -> ShuntedTransformer:
    """Returns the classifier that `config.model` describes.

    Args:
        config: of the run; `data` says how many colours and pixels its images have.
        num_classes: how many outputs it has.

    Raises:
        UserError: there is no such network, its fields do not fit together, or the images are too
            small for it.
    """
    fields = {name: value for name, value in vars(config.model).items() if not name.startswith("_")}
    name, dtype = fields.pop("name"), jnp.dtype(fields.pop("dtype"))
    if name not in list_models():
        raise UserError(f"config.model.name is {name!r}; the models are {', '.join(list_models())}")
    try:
        model = create_model(
            name, num_classes=num_classes, in_channels=config.data.channels, dtype=dtype, **fields
        )
    except ValueError as error:
        raise UserError(f"config.model: {error}") from error
    side, least = config.data.image_size, model.min_image_size
    if side < least:
        raise UserError(f"config.data.image_size is {side}, and {name} wants at least {least}")
    return model
