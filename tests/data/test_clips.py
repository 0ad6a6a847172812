"""Clips of damaged videos, as far as damage is tolerated."""

import json

import av
import numpy as np
import pytest

from mvit_tf.data.clips import evaluation_frames, gather_frames
from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import evaluation_views, train_dataset
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.transforms import Augmentation, Preprocessing
from mvit_tf.data.video.decoding import DecodeError

from .videos import read_numbers, write_numbered

# Every fourth frame of a video of 64; frames 20 to 23 of it are lost, with the GOP they end.
EVERY_FOURTH = ClipSampling(16, 4, rule="stride")
GOP, BAD = 12, 18


def damaged_video(path):
    """A video of 64 frames of which 18 is broken, so that those up to 23 build on what is not."""
    write_numbered(path, 64, gop=GOP)
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        place, size = packets[BAD].pos, packets[BAD].size
    data = bytearray(path.read_bytes())
    data[place + 4 : place + size] = bytes([255]) * (size - 4)
    path.write_bytes(data)
    return str(path)


def decoded(path, sampling, num_clips, tolerated_damage):
    items = evaluation_frames(path, sampling, num_clips, None, tolerated_damage)
    frames, facts = gather_frames(items, lambda part, _: part)
    return frames[facts.picks], facts


def test_the_nearest_decoded_frame_stands_for_a_lost_one(tmp_path):
    path = damaged_video(tmp_path / "damaged.mp4")
    whole = write_numbered(tmp_path / "whole.mp4", 64, gop=GOP)
    with pytest.raises(DecodeError, match="a damaged frame|Invalid data"):
        decoded(path, EVERY_FOURTH, 1, 0.0)
    frames, facts = decoded(path, EVERY_FOURTH, 1, 0.1)
    wanted = list(range(0, 64, 4))
    expected = [16 if number == 20 else number for number in wanted]
    assert read_numbers(frames[0]).tolist() == expected
    assert facts.damaged == 1 / 16 and facts.damage
    # Behind the damage too every frame is that of the undamaged video, to the bit.
    (good,), _ = decoded(str(whole), EVERY_FOURTH, 1, 0.0)
    kept = [number != 20 for number in wanted]
    np.testing.assert_array_equal(frames[0][kept], good[kept])
    again, _ = decoded(path, EVERY_FOURTH, 1, 0.1)
    np.testing.assert_array_equal(again, frames)


def test_the_share_is_of_each_clip(tmp_path):
    """Of two clips, one has lost half of its frames and the other none."""
    path = damaged_video(tmp_path / "damaged.mp4")
    clips = ClipSampling(8, 1, rule="stride")  # 0 to 7, 14 to 21, 28 to 35, 42 to 49, 56 to 63
    frames, facts = decoded(path, clips, 5, 0.5)
    assert facts.damaged == 4 / 40
    assert read_numbers(frames[1]).tolist() == [14, 15, 16, 17, 17, 17, 17, 17]
    assert read_numbers(frames[2]).tolist() == list(range(28, 36))
    with pytest.raises(DecodeError, match="can be read up to 0.60 of 2.13 s only"):
        decoded(path, clips, 5, 0.49)


def test_partial_clips_are_counted_and_named(tmp_path):
    path = damaged_video(tmp_path / "damaged.mp4")
    whole = str(write_numbered(tmp_path / "whole.mp4", 64, gop=GOP))
    videos = VideoList((path, whole), (0, 1), ("a", "b"))
    options = {
        "sampling": EVERY_FOURTH,
        "preprocessing": Preprocessing(size=(16, 16), short_side=16),
        "batch_size": 2,
        "tolerated_damage": 0.25,
    }
    ledger, views = OutcomeLedger(), OutcomeLedger()
    runs = [
        next(iter(train_dataset(
            videos, **options, augmentation=Augmentation(), epochs=1, seed=0, ledger=ledger
        )))[0].numpy()
        for _ in range(2)
    ]  # fmt: skip
    np.testing.assert_array_equal(*runs)
    total, entry = ledger.epoch_entries(0)
    assert total == {"epoch": 0, "clips": 2, "ok": 1, "padded": 0, "partial": 1, "replaced": 0}
    assert (entry["path"], entry["outcome"], entry["damaged"]) == (path, "partial", 1 / 16)
    assert ledger.summary() == "2 videos, all decoded, 1 with damaged frames"

    dataset = evaluation_views(videos, **options, num_clips=1, num_crops=1, ledger=views)
    assert sum(len(index) for _, index in dataset) == 2
    ((name, (share, detail)),) = views.partial.items()
    assert (name, share) == (path, 1 / 16) and "6.2% of the frames asked for are lost" in detail
    assert not views.failures and json.dumps(views.entries()).count('"damaged": 0.0625') == 1
    union = OutcomeLedger.union((ledger, views))
    assert union.partial == views.partial
