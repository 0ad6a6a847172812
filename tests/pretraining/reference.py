"""What SlowFast's MaskFeat computes, stored by `tests/make_maskfeat_references.py`."""

import json
from pathlib import Path

import numpy as np

import mvit_tf

_FILE = Path(__file__).parent.parent / "references" / "slowfast_maskfeat.npz"


def stored():
    """The arrays; `config` is a MViTConfig."""
    with np.load(_FILE) as arrays:
        values = dict(arrays)
    values["config"] = mvit_tf.MViTConfig(**json.loads(str(values["config"])))
    values["frames"] = values["frames"].astype(np.float32)
    return values


def named(arrays, kind):
    """The arrays of a kind, "weight" or "gradient", by SlowFast's names."""
    return {
        name.removeprefix(f"{kind}:"): values.astype(np.float32)
        for name, values in arrays.items()
        if name.startswith(f"{kind}:")
    }
