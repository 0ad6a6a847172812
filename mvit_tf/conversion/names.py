"""Names of variables here and in a PyTorch implementation, read in both directions."""

import dataclasses
import re

from mvit_tf.conversion.tensors import concatenate, to_keras_axes

_LEAVES = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}
_BLOCK_PATH = re.compile(r"block_(\d+)/(.+)")
_BLOCK_NAME = re.compile(r"blocks\.(\d+)\.(.+)")


@dataclasses.dataclass(frozen=True)
class NameTable:
    """Which name goes with which variable path.

    Attributes:
        modules: path of a layer with a weight (and bias) -> its name, outside the blocks.
        parameters: path of a single variable -> its name, outside the blocks.
        block_modules, block_parameters: the same inside a block, after `block_00/` here and
            `blocks.0.` there. Two paths may share a name, of which a block then has one.
    """

    modules: dict[str, str]
    parameters: dict[str, str]
    block_modules: dict[str, str]
    block_parameters: dict[str, str]

    def to_path(self, name):
        """The path of a PyTorch name; None for a name that the layout does not know."""
        block = _BLOCK_NAME.fullmatch(name)
        if not block:
            return _to_path(name, self.modules, self.parameters)
        path = _to_path(block[2], self.block_modules, self.block_parameters)
        return path and f"block_{int(block[1]):02d}/{path}"

    def read(self, state_dict):
        """Names -> Tensor as paths -> Tensor with Keras' axes; unknown names are left out."""
        paths = {name: self.to_path(name) for name in state_dict}
        return {
            path: to_keras_axes(path, state_dict[name]) for name, path in paths.items() if path
        }

    def to_name(self, path):
        """The PyTorch name of a path; None where the layout has no such parameter."""
        block = _BLOCK_PATH.fullmatch(path)
        if not block:
            return _to_name(path, self.modules, self.parameters)
        name = _to_name(block[2], self.block_modules, self.block_parameters)
        return name and f"blocks.{int(block[1])}.{name}"


def _to_path(name, modules, parameters):
    for path, known in parameters.items():
        if known == name:
            return path
    module, _, leaf = name.rpartition(".")
    for path, known in modules.items():
        if known == module:
            norm = re.search(r"norm\d?$", path)
            leaves = {"weight": "gamma", "bias": "beta"} if norm else {"weight": "kernel"}
            return f"{path}/{leaves.get(leaf, leaf)}"
    return None


def _to_name(path, modules, parameters):
    if path in parameters:
        return parameters[path]
    module, _, leaf = path.rpartition("/")
    if module in modules and leaf in _LEAVES:
        return f"{modules[module]}.{_LEAVES[leaf]}"
    return None


def split_block(path):
    """(index, rest) of `block_03/rest`; (None, path) outside the blocks."""
    block = _BLOCK_PATH.fullmatch(path)
    return (int(block[1]), block[2]) if block else (None, path)


def place_expansion(tensors):
    """Tells the two positions of a channel projection apart, where a layout has one name for both.

    The layout's table calls it `proj_mlp`. In the MLP it starts from the attention's width; a
    projection from another width expands in the attention.
    """
    placed = {}
    for path, tensor in tensors.items():
        index, rest = split_block(path)
        if index is not None and rest.startswith("proj_mlp/"):
            block = f"block_{index:02d}"
            kernel = tensors.get(f"{block}/proj_mlp/kernel")
            attention = tensors.get(f"{block}/attn/proj/kernel")
            if kernel and attention and kernel.shape[0] != attention.shape[0]:
                path = path.replace("proj_mlp", "proj_attention")
        placed[path] = tensor
    return placed


def fuse_qkv(tensors):
    """Puts separate q, k and v projections (`attn/q`, `attn/k`, `attn/v`) into one."""
    fused = dict(tensors)
    for path in tensors:
        index, rest = split_block(path)
        if index is None or not rest.startswith("attn/q/"):
            continue
        leaf = rest.removeprefix("attn/q/")
        parts = [f"block_{index:02d}/attn/{letter}/{leaf}" for letter in "qkv"]
        if all(part in tensors for part in parts):
            fused[f"block_{index:02d}/attn/qkv/{leaf}"] = concatenate(
                [fused.pop(part) for part in parts], axis=-1
            )
    return fused
