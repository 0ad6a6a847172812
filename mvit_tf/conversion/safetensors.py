"""Reads safetensors files: a length, a JSON table of names, types and offsets, and the bytes."""

import json
import math
import os

import numpy as np

from mvit_tf.conversion.dtypes import DTYPES, to_float32
from mvit_tf.conversion.tensors import Tensor
from mvit_tf.errors import UserError

_TYPES = {
    "F32": "float32",
    "F64": "float64",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
_LENGTH_BYTES = 8
_LONGEST_TABLE = 100_000_000  # the format's own limit


def is_safetensors(start):
    """Whether the first bytes of a file are those of the format."""
    length = int.from_bytes(start[:_LENGTH_BYTES], "little")
    return 2 <= length <= _LONGEST_TABLE and start[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{"


def read_safetensors(path):
    """The tensors of a file, floating types as float32.

    Returns:
        dict of name -> Tensor, each read from the file when needed.

    Raises:
        UserError: a truncated or damaged file, or a type that no float32 model has.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        table = file.read(length)
    begin, size = _LENGTH_BYTES + length, os.path.getsize(path)
    try:
        entries = json.loads(table)
        entries.pop("__metadata__", None)
        return {name: _tensor(path, name, entry, begin, size) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is cut off or damaged ({error}); download it again") from error


def _tensor(path, name, entry, begin, size):
    first, last = entry["data_offsets"]
    shape = tuple(int(axis) for axis in entry["shape"])
    if entry["dtype"] not in _TYPES:
        raise UserError(f"{path}: {name} has the type {entry['dtype']}, which is not read here")
    dtype = DTYPES[_TYPES[entry["dtype"]]]
    if begin + last > size:
        raise UserError(f"{path} is cut off: {size} of {begin + last} bytes; download it again")
    if first < 0 or last - first != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} has {last - first} bytes for the shape {shape}")

    def read():
        values = np.fromfile(path, dtype, math.prod(shape), offset=begin + first)
        return to_float32(values.reshape(shape))

    return Tensor((name,), shape, read)
