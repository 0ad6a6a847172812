import contextlib
import functools
import json
import os
import shutil
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config

from mvit_tf.data import clips as clips_module
from mvit_tf.data.clips import clip_parts, whole_clips
from mvit_tf.data.lists.video_list import VideoList, load_video_list
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import (
    evaluation_views,
    steps_per_epoch,
    train_dataset,
    videos_of_step,
)
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.transforms import Augmentation, Preprocessing, evaluation_preprocess
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.data.video.decoding import DecodeError, open_video
from mvit_tf.errors import UserError
from mvit_tf.files import write_json_lines

from .video import decoder_functions
from .videos import read_numbers, write_audio, write_numbered, write_video

SAMPLING = ClipSampling(num_frames=4, sampling_rate=2)
PREPROCESSING = Preprocessing(size=(16, 16), short_side=20)
OPTIONS = {
    "sampling": SAMPLING,
    "preprocessing": PREPROCESSING,
    "augmentation": Augmentation(),
    "batch_size": 3,
    "epochs": 4,
    "seed": 5,
    "num_parallel": 3,
}
RAW = {"mean": (0, 0, 0), "std": (1 / 255,) * 3}  # Leaves pixel values as they are.


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Eleven videos; the grey level of number i is 16 i + 20, and its label i % 3."""
    return grey_videos(tmp_path_factory.mktemp("videos"), 11)


def grey_videos(folder, count):
    paths = []
    for number in range(count):
        frames = np.full((12 + number, 24, 32, 3), 16 * number + 20, np.uint8)
        frames[:, :, ::4] = 5  # Something for the crop to move against.
        paths.append(str(write_video(folder / f"{number:02}.mp4", frames)))
    return VideoList(tuple(paths), tuple(i % 3 for i in range(count)), ("a", "b", "c"))


def batches(videos, *, ledger=None, **changes):
    ledger = OutcomeLedger() if ledger is None else ledger
    dataset = train_dataset(videos, ledger=ledger, **{**OPTIONS, **changes})
    return [(clips.numpy(), targets.numpy().argmax(axis=1)) for clips, targets in dataset]


def assert_same(left, right):
    assert len(left) == len(right)
    for (clips, labels), (other_clips, other_labels) in zip(left, right, strict=True):
        np.testing.assert_array_equal(clips, other_clips)
        np.testing.assert_array_equal(labels, other_labels)


def which(batch):
    """The numbers of the videos in a batch of `RAW` clips, by their brightest grey level."""
    brightest = np.percentile(batch, 90, axis=(1, 2, 3, 4))
    return np.rint((brightest - 20) / 16).astype(int).tolist()


def test_shapes_and_step_count(videos):
    dataset = train_dataset(
        videos,
        sampling=SAMPLING,
        preprocessing=PREPROCESSING,
        augmentation=Augmentation(),
        batch_size=3,
        epochs=4,
        start_step=3,
        seed=0,
        ledger=OutcomeLedger(),
    )
    clips, targets = dataset.element_spec
    assert clips.shape == (3, 4, 16, 16, 3) and clips.dtype == tf.float32
    assert targets.shape == (3, 3) and targets.dtype == tf.float32
    assert steps_per_epoch(videos, 3) == 3
    assert int(dataset.cardinality()) == 9 and sum(1 for _ in dataset) == 9


def test_starting_late_goes_on_as_the_uninterrupted_run(videos):
    whole = batches(videos)
    assert_same(batches(videos), whole)
    assert_same(batches(videos, start_step=6), whole[6:])
    assert_same(batches(videos, start_step=7, num_parallel=1), whole[7:])
    assert_same(batches(videos, start_step=2, skipped_steps=[1, 4, 4]), [*whole[2:4], *whole[5:]])
    other = batches(videos, seed=6)
    assert any(np.abs(a[0] - b[0]).max() > 0.1 for a, b in zip(whole, other, strict=True))


@pytest.mark.parametrize("changes", [{}, {"balanced_sampling": True}])
def test_the_videos_of_a_step_are_known_beforehand(videos, changes):
    raw = Preprocessing(size=(16, 16), short_side=16, **RAW)
    for step, (clips, _) in enumerate(batches(videos, preprocessing=raw, **changes)):
        asked = videos_of_step(
            videos, step, batch_size=OPTIONS["batch_size"], seed=OPTIONS["seed"], **changes
        )
        assert which(clips) == asked
    assert step == 11
    twice = videos_of_step(videos, 1, batch_size=4, seed=5, repeated_augmentation=2)
    assert twice[0] == twice[1] != twice[2] == twice[3]


def test_machines_share_a_batch_so_that_partners_in_mixing_stay_together(videos):
    for batch_size, number, repeats in ((8, 2, 1), (8, 4, 1), (8, 2, 2), (6, 3, 1), (6, 2, 1)):
        options = {"batch_size": batch_size, "repeated_augmentation": repeats, "epochs": 1}
        whole = batches(videos, **options)
        shards = [batches(videos, shard=(index, number), **options) for index in range(number)]
        for step, (clips, _) in enumerate(whole):
            own = [shard[step][0] for shard in shards]
            assert {len(part) for part in own} == {batch_size // number}
            taken = sorted(clip.tobytes() for part in own for clip in part)
            assert taken == sorted(clip.tobytes() for clip in clips)
            if batch_size // repeats // number % 2:
                continue
            partner = {a.tobytes(): b.tobytes() for a, b in zip(clips, clips[::-1], strict=True)}
            for part in own:
                for clip, other in zip(part, part[::-1], strict=True):
                    assert partner[clip.tobytes()] == other.tobytes()
    with pytest.raises(UserError, match="a batch of 8 videos cannot be shared out evenly to 3"):
        batches(videos, batch_size=8, shard=(0, 3))


def test_epochs_are_permutations_that_differ(videos):
    raw = Preprocessing(size=(16, 16), short_side=16, **RAW)
    epochs = []
    for epoch in range(3):
        seen = batches(videos, batch_size=11, preprocessing=raw, start_step=epoch, epochs=epoch + 1)
        ((clips, labels),) = seen
        numbers = which(clips)
        assert sorted(numbers) == list(range(11))
        assert labels.tolist() == [number % 3 for number in numbers]
        epochs.append(numbers)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_crops_differ_between_epochs(videos):
    still = videos.subset([0])  # All its frames are alike, so only the crop can change.
    clips = [clip.round(4).tobytes() for clip, _ in batches(still, batch_size=1, epochs=8)]
    assert len(set(clips)) >= 6


def test_random_clips_differ_between_epochs_and_lie_where_sampling_says(tmp_path):
    path = write_numbered(tmp_path / "long.mp4", 60)
    videos = VideoList((str(path),), (0,), ("a",))
    still = Augmentation(scale=(1.0, 1.0), ratio=(1.25, 1.25), flip=False)
    seen = batches(
        videos,
        batch_size=1,
        epochs=12,
        preprocessing=Preprocessing(size=(64, 80), short_side=64, **RAW),
        augmentation=still,
    )
    clips = np.concatenate([read_numbers(batch) for batch, _ in seen])
    assert clips.shape == (12, 4)
    span = clips[:, -1] - clips[:, 0]
    assert set(span.tolist()) <= {6, 7, 8} and len(set(clips[:, 0].tolist())) > 6


def test_bad_videos_are_recorded_once_and_replaced_by_the_next(tmp_path, monkeypatch):
    videos = grey_videos(tmp_path, 14)
    raw = Preprocessing(size=(16, 16), short_side=16, **RAW)
    run = functools.partial(batches, videos, batch_size=14, preprocessing=raw)
    orders = [which(clips) for clips, _ in run()]

    (tmp_path / "03.mp4").write_bytes(b"")
    write_audio(tmp_path / "07.mp4")
    (tmp_path / "11.mp4").unlink()
    bad = {3: "empty_file", 7: "no_video_stream", 11: "missing"}
    opened = []
    monkeypatch.setattr(
        clips_module, "open_source", lambda path: opened.append(path) or open_video(path)
    )
    ledger = OutcomeLedger()
    seen = run(ledger=ledger, num_parallel=1)
    assert len(seen) == 4  # The number of steps stays.
    outcomes = {path: outcome for path, (outcome, _) in ledger.failures.items()}
    assert outcomes == {videos.paths[i]: outcome for i, outcome in bad.items()}
    assert ledger.summary().startswith("14 videos, 3 left out")
    assert [opened.count(videos.paths[i]) for i in bad] == [1, 1, 1]
    for (clips, labels), order in zip(seen, orders, strict=True):
        expected = []
        for position in range(14):
            following = order[position:] + order[:position]
            expected.append(next(number for number in following if number not in bad))
        assert which(clips) == expected
        assert labels.tolist() == [number % 3 for number in expected]
    # The same whatever is known of the bad files beforehand, and in parallel.
    assert_same(run(ledger=ledger, start_step=1), seen[1:])
    assert_same(run(start_step=1, num_parallel=8), seen[1:])
    ledger.check(0.25)
    with pytest.raises(UserError, match="14 videos, 3 left out"):
        ledger.check(0.2)


def test_file_whole_for_some_clips_only_does_not_break_resuming(tmp_path):
    videos = grey_videos(tmp_path, 4)
    faststart = {"container_options": {"movflags": "faststart"}}
    damaged = write_numbered(tmp_path / "02.mp4", 60, **faststart)
    data = damaged.read_bytes()
    damaged.write_bytes(data[: len(data) * 7 // 10])
    run = functools.partial(batches, videos, batch_size=4, epochs=8)
    ledger = OutcomeLedger()
    whole = run(ledger=ledger)
    assert ledger.failures[str(damaged)][0] == "decode_error"
    used = [labels.tolist().count(2) for _, labels in whole]
    assert 0 < sum(used) < 8  # Whole in some epochs, and not in others.
    for epoch in range(1, 8):
        assert_same(run(start_step=epoch), whole[epoch:])


def test_nothing_decodable_stops_before_the_start(tmp_path):
    paths = tuple(str(tmp_path / f"{i}.mp4") for i in range(4))
    videos = VideoList(paths, (0,) * 4, ("a",))
    with pytest.raises(UserError, match="none of the 4 videos.*0.mp4 .missing.*and 1 more"):
        batches(videos, batch_size=2)
    with pytest.raises(UserError, match="none of the 4 videos"):
        views(videos)


def test_disk_that_vanishes_midway_stops_the_run(videos, tmp_path):
    paths = []
    for path in videos.paths[:4]:
        paths.append(str(tmp_path / os.path.basename(path)))
        os.link(path, paths[-1])
    ledger = OutcomeLedger()
    dataset = train_dataset(
        VideoList(tuple(paths), (0,) * 4, ("a",)),
        sampling=SAMPLING,
        preprocessing=PREPROCESSING,
        augmentation=Augmentation(),
        batch_size=2,
        epochs=1000,
        seed=0,
        ledger=ledger,
    )
    nothing = pytest.raises(UserError, match="none of the 4 videos could be decoded")
    with nothing as caught, ledger.user_errors():
        for step, _ in enumerate(dataset):
            if step == 3:
                for path in paths:
                    os.remove(path)
    assert "\n" not in str(caught.value)


def test_disk_that_vanishes_while_scoring_stops_the_run(videos, tmp_path):
    paths = [videos.paths[0], *(str(tmp_path / f"{number}.mp4") for number in range(30))]
    ledger = OutcomeLedger()
    views = evaluation_views(
        VideoList(tuple(paths), (0,) * len(paths), ("a",)),
        sampling=SAMPLING,
        preprocessing=PREPROCESSING,
        num_clips=1,
        num_crops=1,
        batch_size=2,
        ledger=ledger,
    )
    gone = pytest.raises(UserError, match="videos in a row could not be .* network folder gone")
    with gone as caught, ledger.user_errors():
        list(views)
    assert "\n" not in str(caught.value)


def test_other_tensorflow_errors_pass_through():
    ledger = OutcomeLedger()
    ledger.record("a.mp4")
    ledger.record("b.mp4", "missing", "no such file")
    with pytest.raises(tf.errors.InvalidArgumentError), ledger.user_errors():
        tf.debugging.assert_equal(1, 2)


def test_decoding_stays_parallel_and_equal_under_op_determinism(videos, monkeypatch):
    expected = batches(videos, epochs=1)
    running, most = set(), 0

    @contextlib.contextmanager
    def slow_open(path):
        nonlocal most
        running.add(threading.get_ident())
        most = max(most, len(running))
        time.sleep(0.05)
        with open_video(path) as video:
            yield video
        running.discard(threading.get_ident())

    monkeypatch.setattr(clips_module, "open_source", slow_open)
    tf.config.experimental.enable_op_determinism()
    try:
        tf.random.set_seed(0)
        assert_same(batches(videos, epochs=1), expected)
    finally:
        config.disable_op_determinism()
    assert most >= 2


def views(videos, *, ledger=None, **changes):
    options = {
        "sampling": SAMPLING,
        "preprocessing": PREPROCESSING,
        "num_clips": 2,
        "num_crops": 3,
        "batch_size": 8,
        "num_parallel": 3,
        "ledger": OutcomeLedger() if ledger is None else ledger,
        **changes,
    }
    dataset = evaluation_views(videos, **options)
    clips, index = dataset.element_spec
    assert clips.shape == (None, 4, *options["preprocessing"].size, 3)
    assert index.shape == (None,) and index.dtype == tf.int64
    return [(clips.numpy(), index.numpy()) for clips, index in dataset]


def test_views_come_video_by_video_clip_by_clip_crop_by_crop(videos):
    seen = views(videos)
    assert [len(index) for _, index in seen] == [8] * 8 + [2]
    index = np.concatenate([index for _, index in seen])
    assert index.tolist() == np.repeat(np.arange(11), 6).tolist()
    clips = np.concatenate([clips for clips, _ in seen])
    small = Preprocessing(size=(16, 16), short_side=16)  # Three crops: short side = crop.
    expected = [
        evaluation_preprocess(clip, small, crop)
        for clip in whole_clips(clip_parts(videos.paths[7], SAMPLING, 2))
        for crop in ("left", "center", "right")
    ]
    np.testing.assert_allclose(clips[42:48], expected, atol=1e-6)
    assert_same(views(videos, num_parallel=1), seen)


def test_one_crop_is_the_centre_of_the_larger_resize(videos):
    ((clips, index),) = views(videos.subset([4]), num_clips=1, num_crops=1)
    assert index.tolist() == [0]
    (clip,) = whole_clips(clip_parts(videos.paths[4], SAMPLING, 1))
    expected = evaluation_preprocess(clip, PREPROCESSING, "center")
    np.testing.assert_allclose(clips[0], expected, atol=1e-6)


def test_failed_videos_are_left_out_of_the_views(videos, tmp_path):
    paths = (videos.paths[0], str(tmp_path / "gone.mp4"), videos.paths[2])
    ledger = OutcomeLedger()
    seen = views(VideoList(paths, (0, 1, 2), videos.class_names), ledger=ledger)
    index = np.concatenate([index for _, index in seen])
    assert index.tolist() == [0] * 6 + [2] * 6
    assert list(ledger.failures) == [paths[1]] and len(ledger) == 3


def test_names_that_are_not_utf8_go_through(videos, tmp_path):
    """To the end of an epoch and beyond: TensorFlow crashes on an error that names one."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    for number, path in enumerate(videos.paths[:3]):
        shutil.copy(path, folder / os.fsdecode(b"\xff%d.mp4" % number))
    (folder / os.fsdecode(b"\xff9.mp4")).write_bytes(b"no video")
    named = load_video_list(tmp_path)
    ledger = OutcomeLedger()
    assert len(batches(named, ledger=ledger, epochs=1)) == 1
    assert len(views(named, ledger=ledger)) == 3
    assert list(ledger.failures) == [named.paths[3]]
    write_json_lines(tmp_path / "outcomes.jsonl", ledger.entries())
    lines = (tmp_path / "outcomes.jsonl").read_text(encoding="utf-8").splitlines()
    assert sorted(json.loads(line)["path"] for line in lines) == sorted(named.paths)

    ledger = OutcomeLedger()
    dataset = train_dataset(named, ledger=ledger, **OPTIONS)
    shutil.rmtree(folder)
    nothing = pytest.raises(UserError, match=r"none of the 4 .*caf\\udce9/\\udcff\d.mp4 \(missing")
    with nothing, ledger.user_errors():
        next(iter(dataset))


@pytest.mark.parametrize("way", ["workers", "small parts"])
def test_however_it_is_decoded_the_pixels_are_the_same(videos, monkeypatch, way):
    expected = batches(videos, epochs=2), views(videos, num_clips=3)
    with DecodeWorkers(2) as workers:
        options = {"workers": workers}
        if way == "small parts":
            options = {}
            monkeypatch.setattr(clips_module, "_PART_BYTES", 2 * 24 * 32 * 3)
        assert_same(batches(videos, epochs=2, **options), expected[0])
        assert_same(views(videos, num_clips=3, **options), expected[1])


@pytest.mark.parametrize(
    ("dies", "outcome"), [("aborts", "decoder_crash"), ("hangs", "decoder_timeout")]
)
def test_a_video_on_which_the_decoder_dies_is_replaced_and_the_run_goes_on(videos, dies, outcome):
    fatal = videos.paths[4]
    runs = []
    for count in (1, 2):
        ledger = OutcomeLedger()
        with DecodeWorkers(count, time_limit=2.0) as workers:

            def run(function, path, *args, workers=workers):
                function = getattr(decoder_functions, dies) if path == fatal else function
                return workers.run(function, path, *args)

            runs.append(batches(videos, ledger=ledger, workers=SimpleNamespace(run=run)))
        assert [entry[0] for entry in ledger.failures.values()] == [outcome]
        assert list(ledger.failures) == [fatal]
    assert_same(*runs)
    assert len(runs[0]) == 12


def test_what_short_videos_do(tmp_path):
    path = str(write_numbered(tmp_path / "short.mp4", 5))
    rule = functools.partial(ClipSampling, 8, 1.0, 30.0, "stride")
    (clip,) = whole_clips(clip_parts(path, rule(), 1))
    assert read_numbers(clip).tolist() == [0, 1, 2, 3, 4, 4, 4, 4]
    again = rule(short_videos="loop")
    (clip,) = whole_clips(clip_parts(path, again, 1))
    assert read_numbers(clip).tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    with pytest.raises(DecodeError, match="short.mp4: 5 frames, 0.17 s, are shorter") as caught:
        list(whole_clips(clip_parts(path, rule(short_videos="reject"), 1)))
    assert caught.value.outcome == "too_short"


def test_short_videos_are_counted(videos):
    ledger = OutcomeLedger()
    long = ClipSampling(num_frames=8, sampling_rate=2)  # 16 frames; the first videos have 12 to 15
    batches(videos, ledger=ledger, sampling=long, epochs=1, batch_size=11)
    assert ledger.summary() == "11 videos, all decoded, 4 shorter than a clip"
    (total,) = ledger.epoch_entries(0)
    assert total == {"epoch": 0, "clips": 11, "ok": 7, "padded": 4, "partial": 0, "replaced": 0}


def test_clips_of_a_segment_lie_in_it(tmp_path):
    path = str(write_numbered(tmp_path / "long.mp4", 90))
    # Between frames the one that is shown counts.
    segments = ((1.03, 1.5), (2.0, 9.0), (3.5, 4.0))
    parts = VideoList((path,) * 3, (0, 1, 2), ("a", "b", "c"), segments=segments)
    numbers = Preprocessing(size=(64, 80), short_side=64, **RAW)
    still = Augmentation(scale=(1.0, 1.0), ratio=(1.25, 1.25), flip=False)
    ledger = OutcomeLedger()
    options = {"preprocessing": numbers, "augmentation": still, "ledger": ledger}
    seen = batches(parts, batch_size=1, epochs=20, **options)
    frames = {label: set() for label in (0, 1)}
    for clip, (label,) in seen:
        frames[label] |= set(read_numbers(clip).ravel().tolist())
    assert frames[0] == set(range(30, 44))
    assert min(frames[1]) == 60 and 80 < max(frames[1]) < 90
    assert list(ledger.failures) == [f"{path} 3.5-4 s"]
    options = {"preprocessing": numbers, "ledger": ledger, "num_crops": 1}
    ((clips, index),) = views(parts, **options)
    assert index.tolist() == [0, 0, 1, 1]
    assert read_numbers(clips[:, 0]).tolist() == [30, 37, 60, 82]
    assert dict(ledger.failures)[f"{path} 3.5-4 s"] == (
        "too_short", "3.00 s long, and the segment begins at 3.5 s",
    )  # fmt: skip


@pytest.mark.parametrize("frames_in_a_part", [1, 3, 100])
def test_whole_clips_are_the_frames_of_the_rule(tmp_path, monkeypatch, frames_in_a_part):
    monkeypatch.setattr(clips_module, "_PART_BYTES", frames_in_a_part * 64 * 80 * 3)
    path = write_numbered(tmp_path / "long.mp4", 46)
    clips = np.stack(list(whole_clips(clip_parts(path, ClipSampling(8, 2), 3))))
    assert clips.shape == (3, 8, 64, 80, 3) and clips.dtype == np.uint8
    first = [0, 2, 4, 6, 8, 10, 12, 15]
    expected = [[start + index for index in first] for start in (0, 15, 30)]
    assert read_numbers(clips).tolist() == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 12}, "11 videos are fewer than one batch of 12"),
        ({"batch_size": 0}, "batch_size.*0"),
        ({"seed": -1}, "seed.*-1"),
    ],
)
def test_bad_training_arguments(videos, changes, message):
    with pytest.raises(UserError, match=message):
        batches(videos, **changes)


def test_bad_evaluation_arguments(videos):
    with pytest.raises(UserError, match="num_crops must be 1 or 3, not 2"):
        views(videos, num_crops=2)
    with pytest.raises(UserError, match="holds no videos"):
        views(videos.subset([]))
    with pytest.raises(UserError, match="num_clips must be at least 1"):
        views(videos, num_clips=0)
