"""Element types of stored tensors, by PyTorch's names."""

import ml_dtypes
import numpy as np

DTYPES = {
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
}


def to_float32(values):
    """Values of a floating type as float32; others as they are."""
    # numpy puts the types of ml_dtypes under V.
    return values.astype(np.float32) if values.dtype.kind in "fV" else values
