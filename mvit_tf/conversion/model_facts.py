"""What a conversion needs to know of a Keras model, read from its layers."""

import dataclasses

from mvit_tf.errors import UserError
from mvit_tf.layers import MultiscaleBlock


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """A model of `build_mvit`, seen from outside.

    Attributes:
        variables: path -> variable, without the states of random generators.
        image: whether it takes (H, W, 3).
        class_token: whether it has one.
        residual_pooling, pool_mode, qkv_bias, readout: the values of its config.
        grid: (T, H, W) of the first block's tokens.
    """

    variables: dict
    image: bool
    class_token: bool
    residual_pooling: str
    pool_mode: str
    qkv_bias: bool
    readout: str
    grid: tuple[int, int, int]

    @property
    def shapes(self):
        """path -> shape, a tuple of ints."""
        return {path: tuple(variable.shape) for path, variable in self.variables.items()}


def model_facts(model):
    """Looks a model over.

    Raises:
        UserError: it is not a model of `create_model` or `build_mvit`.
    """
    blocks = [layer for layer in model.layers if isinstance(layer, MultiscaleBlock)]
    names = {layer.name for layer in model.layers}
    if not blocks or not {"patch_embed", "norm", "readout"} <= names:
        raise UserError(
            f"{model.name!r} is not a model of mvit_tf.create_model or mvit_tf.build_mvit, whose "
            "layers the weights are mapped to; convert into such a model and take its layers"
        )
    block = blocks[0].get_config()
    readout = model.get_layer("readout").mode
    if readout == "mean" and len(model.get_layer("norm").input.shape) == 2:
        readout = "mean_before_norm"
    return ModelFacts(
        variables={variable.path: variable for variable in model.weights},
        image=len(model.input_shape) == 4,
        class_token=block["class_token"],
        residual_pooling=block["residual_pooling"],
        pool_mode=block["pool_mode"],
        qkv_bias=block["qkv_bias"],
        readout=readout,
        grid=tuple(block["grid"]),
    )
