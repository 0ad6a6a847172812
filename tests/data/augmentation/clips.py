"""Pictures with what tells transforms apart: smooth, noisy, dim and flat frames."""

import numpy as np
from PIL import Image


def varied_clip(height=64, width=97):
    """uint8 (4, height, width, 3)."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    dim = (noise // 3 + 40).astype(np.uint8)
    return np.stack([smooth, noise, dim, np.full_like(noise, 77)])
