"""A clip's way through a model, block by block, and the gradient of a class on the way back."""

import dataclasses

import keras
import numpy as np
from keras import ops

from mvit_tf.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class ForwardPass:
    """What a clip is at every step of a model.

    Attributes:
        model: MViT.
        blocks: its `MultiscaleBlock`s.
        inputs: the tokens (1, N, C) that enter each block.
        outputs: the tokens that leave the last one.
        logits: float32 (K,).
    """

    model: keras.Model
    blocks: list
    inputs: list
    outputs: object
    logits: np.ndarray

    @property
    def class_token(self):
        return self.model.config.class_token


def forward_pass(model, clip):
    """Runs a model on one clip and keeps the tokens between the blocks.

    Args:
        model: MViT.
        clip: normalised float frames, as the model takes them, with a batch axis of 1.

    Returns:
        ForwardPass.
    """
    blocks = [model.get_layer(spec.name) for spec in model.config.blocks()]
    steps = [block.input for block in blocks] + [blocks[-1].output, model.output]
    *inputs, outputs, logits = keras.Model(model.input, steps)(clip, training=False)
    logits = ops.convert_to_numpy(ops.cast(logits, "float32"))[0]
    return ForwardPass(model, blocks, inputs, outputs, logits)


def attention_weights(block, tokens):
    """The softmax (1, heads, Nq, Nk), float32, of the tokens that enter a block."""
    return block.attn.attention_weights(block.norm1(tokens))


def readout_gradient(forward, class_index):
    """The gradient of a class's logit where the last tokens become one vector.

    Returns:
        (tokens (1, N, C) as the readout takes them, the gradient in them, and the gradient in the
        tokens that leave the last block).
    """
    norm, readout, head = (forward.model.get_layer(name) for name in ("norm", "readout", "head"))

    # The layers themselves: a `keras.Model` from within the graph would leave a copy of it behind.
    def logit(outputs):
        if forward.model.config.readout == "mean":
            tokens = norm(outputs)
            features = readout(tokens)
        else:
            tokens = outputs
            features = norm(readout(tokens))
        return head(features)[0, class_index], tokens

    return _gradients(logit, forward.outputs)


def backward_pass(forward, upstream):
    """Takes a gradient back through the blocks.

    One block is run again at a time, so that no more than one softmax and its gradient are held.

    Args:
        forward: ForwardPass.
        upstream: the gradient in `forward.outputs`.

    Yields:
        From the last block to the first: (block, its parts as `call_with_parts` returns them,
        the gradients in these).
    """
    for block, tokens in zip(forward.blocks[::-1], forward.inputs[::-1], strict=True):
        parts, slopes, upstream = _gradients(block.call_with_parts, tokens, upstream)
        yield block, parts, slopes


def _gradients(function, tokens, upstream=None):
    """Runs a function and takes a gradient back through it.

    Args:
        function: of tokens, to (result, one or more tensors on the way to it).
        tokens: tensor.
        upstream: the gradient in the result; ones by default.

    Returns:
        (the tensors on the way, the gradients in them, the gradient in `tokens`).

    Raises:
        UserError: Keras runs on another backend.
    """
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            "gradients are taken with TensorFlow only: set KERAS_BACKEND=tensorflow, or use the "
            "method rollout"
        )
    import tensorflow as tf

    from mvit_tf.layers.kernels.compiled import without_xla

    # Compiling takes longer than the one use that a clip makes of each kernel.
    with without_xla():
        with tf.GradientTape() as tape:
            tape.watch(tokens)
            result, between = function(tokens)
        return between, *tape.gradient(result, [between, tokens], output_gradients=upstream)
