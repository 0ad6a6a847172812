"""Every kind of broken and unusual file on the whole way from a list to batches."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import evaluation_views, train_dataset
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.transforms import Augmentation, Preprocessing
from mvit_tf.data.video.decode_workers import DecodeWorkers

from .video import decoder_functions
from .videos import write_audio, write_numbered, write_video

SAMPLING = ClipSampling(num_frames=4, sampling_rate=2)
PREPROCESSING = Preprocessing(size=(16, 16), short_side=20)
EPOCHS, BATCH = 2, 4


def cut(path, **options):
    whole = write_numbered(path, 60, **options).read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])


def flipped(path):
    """The middle third of the pictures is zeroed; the file opens, its first frames decode."""
    data = bytearray(write_numbered(path, 60).read_bytes())
    start = data.index(b"mdat") + 4
    size = int.from_bytes(data[start - 8 : start - 4], "big") - 8
    data[start + size // 3 : start + 2 * size // 3] = bytes(2 * size // 3 - size // 3)
    path.write_bytes(data)


def unreadable(path):
    """What root cannot read either."""
    if os.geteuid():
        write_numbered(path, 20).chmod(0)
    else:
        path.symlink_to(path.name)


def odd_size(path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 63, 81, 3), np.uint8)
    write_video(path, pixels, pix_fmt="yuv444p")


def turned(**rotation):
    return "ok", lambda path: write_numbered(path, 20, rotation=rotation)


# Name -> (outcome in evaluation, function that makes the file).
FILES = {
    "good_1": ("ok", lambda path: write_numbered(path, 20)),
    "zero_bytes": ("empty_file", lambda path: path.touch()),
    "truncated": ("decode_error", lambda path: cut(path, container_options=FASTSTART)),
    "no_moov": ("container_error", cut),
    "flipped": ("decode_error", flipped),
    "good_2": ("ok", lambda path: write_numbered(path, 30)),
    "audio_only": ("no_video_stream", write_audio),
    "one_frame": ("padded", lambda path: write_numbered(path, 1)),
    "short": ("padded", lambda path: write_numbered(path, 5)),
    "variable_rate": (
        "ok",
        lambda path: write_numbered(path, 20, stamps=[0.02 * i + (i > 7) for i in range(20)]),
    ),
    "turned_90": turned(degrees=90),
    "turned_180": turned(degrees=180),
    "turned_270": turned(degrees=270),
    "upside_down": turned(degrees=0, vflip=True),
    "mirrored": turned(degrees=0, hflip=True),
    "odd_size": ("ok", odd_size),
    "ten_bit": ("ok", lambda path: write_numbered(path, 20, pix_fmt="yuv420p10le")),
    "unreadable": ("missing", unreadable),
    "missing": ("missing", lambda path: None),
    "pipe": ("container_error", os.mkfifo),
    "aborts": ("decoder_crash", lambda path: write_numbered(path, 20)),
    "text": ("container_error", lambda path: path.write_text("no video\n" * 99)),
}
FASTSTART = {"movflags": "faststart"}
GOOD = ("ok", "padded")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_each_kind_has_its_outcome_and_the_batches_are_the_same_twice(tmp_path):
    for name, (_, make) in FILES.items():
        make(tmp_path / f"{name}.mp4")
    paths = tuple(str(tmp_path / f"{name}.mp4") for name in FILES)
    videos = VideoList(paths, tuple(i % 2 for i in range(len(paths))), ("x", "y"))
    expected = {path: outcome for path, (outcome, _) in zip(paths, FILES.values(), strict=True)}
    runs = []
    for count in (2, 3):
        with DecodeWorkers(count) as workers:
            decoder = SimpleNamespace(run=lambda *args, of=workers: of.run(*_aborting(*args)))
            runs.append((_train(videos, decoder), _evaluate(videos, decoder)))

    for (_, trained), (_, evaluated) in runs:
        assert {path: outcome for path, (outcome, _) in evaluated.outcomes.items()} == expected
        # All are asked for in an epoch; a damaged one may give clips that are whole.
        failed = {path: outcome for path, (outcome, _) in trained.failures.items()}
        surely = {path: what for path, what in expected.items() if what not in GOOD}
        assert failed.items() <= surely.items()
        assert {p for p, what in surely.items() if what != "decode_error"} <= failed.keys()
    for (batches, _), (others, _) in zip(*runs, strict=True):
        for arrays, other in zip(batches, others, strict=True):
            for array, same in zip(arrays, other, strict=True):
                np.testing.assert_array_equal(array, same)
    accounts = [[trained.epoch_entries(epoch) for epoch in range(EPOCHS)]
                for (_, trained), _ in runs]  # fmt: skip
    assert accounts[0] == accounts[1]
    for total, *replaced in accounts[0]:
        assert total["clips"] == len(paths) // BATCH * BATCH
        assert total["clips"] == total["ok"] + total["padded"] + total["replaced"]
        assert total["replaced"] == len(replaced) > 0
        assert all(expected[entry["path"]] == entry["outcome"] for entry in replaced)
        assert all(expected[entry["replaced_by"]] in (*GOOD, "decode_error") for entry in replaced)


def _aborting(function, path, *args):
    return (decoder_functions.aborts if "aborts" in path else function), path, *args


def _train(videos, decoder):
    ledger = OutcomeLedger()
    dataset = train_dataset(
        videos,
        sampling=SAMPLING,
        preprocessing=PREPROCESSING,
        augmentation=Augmentation(),
        batch_size=BATCH,
        epochs=EPOCHS,
        seed=3,
        ledger=ledger,
        workers=decoder,
        num_parallel=3,
    )
    with ledger.user_errors():
        return list(dataset.as_numpy_iterator()), ledger


def _evaluate(videos, decoder):
    ledger = OutcomeLedger()
    dataset = evaluation_views(
        videos,
        sampling=SAMPLING,
        preprocessing=PREPROCESSING,
        num_clips=3,
        num_crops=1,
        batch_size=BATCH,
        ledger=ledger,
        workers=decoder,
        num_parallel=3,
    )
    with ledger.user_errors():
        return list(dataset.as_numpy_iterator()), ledger
