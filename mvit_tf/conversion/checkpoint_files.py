"""Reads the files that PyTorch weights come in, without PyTorch, and finds the state dict."""

import dataclasses
import importlib.util
import os

from mvit_tf.conversion import safetensors, torch_zip
from mvit_tf.conversion.tensors import Tensor, as_tensor
from mvit_tf.errors import UserError

# Where training programs put the state dict beside optimizer states and settings.
_STATE_DICT_KEYS = ("model_state", "state_dict", "model", "model_state_dict")
_HEAD_LENGTH = 64
_ZIP_START = b"PK\x03\x04"
# What torch.save began a file with before version 1.6: a pickled magic number.
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_OTHER_STARTS = {
    b"\x89HDF": "a Keras weights file; load it with model.load_weights",
    b"version https://git-lfs": "a Git LFS pointer, not the file; fetch it with git lfs pull",
    b"\x1f\x8b": "a gzip archive; unpack it first",
}


def read_checkpoint(path):
    """The state dict of a `.pth`, `.pyth`, `.pt` or `.safetensors` file.

    The values stay in the file until a tensor is read.

    Returns:
        dict of name -> Tensor.

    Raises:
        UserError: no such file, an unknown, damaged or unsafe one, or none with a state dict.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        what = "is a directory" if os.path.isdir(path) else "does not exist"
        raise UserError(f"{path} {what}; give a .pth, .pyth, .pt or .safetensors file")
    with open(path, "rb") as file:
        start = file.read(_HEAD_LENGTH)
    if start.startswith(_ZIP_START):
        return find_state_dict(path, torch_zip.read_torch_zip(path))
    if start.startswith(_LEGACY_START):
        return find_state_dict(path, _read_legacy(path))
    if safetensors.is_safetensors(start):
        return safetensors.read_safetensors(path)
    raise UserError(f"{path} is {_describe(start)}")


def find_state_dict(path, content):
    """The names -> Tensor of an unpickled file, at its top or one level down.

    Of several dicts of tensors the one under a usual name, else all, their keys before the names.

    Raises:
        UserError: neither place holds tensors under names.
    """
    if isinstance(content, dict):
        for key in _STATE_DICT_KEYS:
            if tensors := _tensors(content.get(key)):
                return tensors
        if tensors := _tensors(content):
            return tensors
        nested = [(key, _tensors(value)) for key, value in content.items()]
        if any(tensors for _, tensors in nested):  # student and teacher, say
            return {
                f"{key}.{name}": dataclasses.replace(tensor, names=(f"{key}.{name}",))
                for key, tensors in nested
                for name, tensor in tensors.items()
            }
        found = f"a dict with the keys {', '.join(map(str, list(content)[:8])) or '(none)'}"
    else:
        found = f"a {type(content).__name__}"
    raise UserError(f"{path} holds {found}, no state dict; save model.state_dict() with torch.save")


def _tensors(content):
    if not isinstance(content, dict):
        return {}
    return {
        name: value if isinstance(value, Tensor) else as_tensor(name, value)
        for name, value in _named(content)
    }


def _named(content):
    for name, value in content.items():
        if isinstance(value, torch_zip.StoredTensor):
            yield name, Tensor((str(name),), value.shape, value.read)
        elif hasattr(value, "detach"):
            yield name, value


def _read_legacy(path):
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            f"{path} is in PyTorch's file format of before version 1.6, which only PyTorch reads: "
            "install torch, or there run torch.save(torch.load(path), new_path)"
        )
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).strip().splitlines() or ["unreadable"]
        raise UserError(f"{path} cannot be read: {reason[0]}") from error


def _describe(start):
    if not start:
        return "empty; download it again"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not weights: the server answered with a page; download it again"
    for known, what in _OTHER_STARTS.items():
        if start.startswith(known):
            return what
    if start.startswith(b"\x80"):
        return (
            "a plain pickle (Caffe2 and Detectron write such .pkl files), which may run code when "
            "opened; convert it to a state dict in PyTorch and save that"
        )
    return "no file that torch.save or safetensors wrote; download it again if it should be"
