"""The measure of the explanations: masks lie on what moves in the written videos."""

import numpy as np
import pytest

from benchmarks import localisation
from mvit_tf.data.moving_shapes import write_moving_shapes
from mvit_tf.data.preprocessing import Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.explain.video_clip import read_clip
from mvit_tf.export.metadata import ExportMetadata


def test_enrichment_is_a_ratio_of_shares():
    mask = np.zeros((2, 4, 4), bool)
    mask[0, :2] = True
    assert localisation.enrichment(np.ones(mask.shape), mask) == 1
    assert localisation.enrichment(mask.astype(float), mask) == 4
    assert localisation.enrichment(mask + 1.0, mask) == pytest.approx(1.6)


def test_masks_are_of_the_clips_frames(tmp_path):
    """Where frames of a video change is where its shapes are, and not those of another seed."""
    root = write_moving_shapes(tmp_path / "videos", videos_per_class=1, seed=5)
    metadata = ExportMetadata(
        model_name="",
        class_names=(),
        preprocessing=Preprocessing(size=(48, 48), short_side=48),
        sampling=ClipSampling(num_frames=16, sampling_rate=2),
        num_clips=1,
    )
    clip, fps = read_clip(root / "left" / "left_0000.mp4", metadata)
    assert clip.shape == (16, 48, 48, 3) and fps == pytest.approx(15, rel=0.1)
    change = localisation.frame_difference(clip)
    own, other = (localisation.clip_mask(4, 0, seed, metadata) for seed in (5, 6))
    assert localisation.enrichment(change, own) > 3
    assert localisation.enrichment(change, other) < 2
