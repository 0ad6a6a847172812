"""What LoRA adds to a model's weights, and how a weights file keeps it.

The layers of a file are those of the model without LoRA, each kernel with its product of low rank
added, so that an ordinary model loads it. Kernels and factors stand apart in a group of their own,
which Keras passes over: training goes on from there with the same bits.
"""

import h5py
import keras

from mvit_tf.layers.multiscale_block import MultiscaleBlock

GROUP = "lora"
_FACTORS = ("lora_kernel_a", "lora_kernel_b")


def merged_weights(model: keras.Model) -> list[keras.Variable]:
    """A model's weights without the factors of LoRA; all of them where it has none."""
    return [variable for variable in model.weights if variable.name not in _FACTORS]


def lora_weights(model: keras.Model) -> dict[str, keras.Variable]:
    """Both factors of each layer with LoRA, and the frozen kernel that they add to, by path."""
    found = {}
    for block in model.layers:
        if not isinstance(block, MultiscaleBlock):
            continue
        for layer in block.dense_layers:
            found |= {variable.path: variable for variable in layer.lora_weights.values()}
    return found


def write_lora(model: keras.Model, file: h5py.File):
    """Adds the group to a weights file; nothing of a model without LoRA."""
    for name, variable in lora_weights(model).items():
        file[f"{GROUP}/{name}"] = keras.ops.convert_to_numpy(variable)


def read_lora(model: keras.Model, file: h5py.File) -> bool:
    """Sets what `write_lora` wrote, after all other weights.

    Returns:
        Whether the file holds just what the model has; otherwise the model is left as it is.
    """
    wanted = lora_weights(model)
    held = {}

    def visit(name, node):
        if isinstance(node, h5py.Dataset):
            held[name] = node

    if GROUP in file:
        file[GROUP].visititems(visit)
    if {name: tuple(node.shape) for name, node in held.items()} != {
        name: tuple(variable.shape) for name, variable in wanted.items()
    }:
        return False
    for name, variable in wanted.items():
        variable.assign(held[name][()])
    return True
