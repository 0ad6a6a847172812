"""Training clips from a tf.data service: a dispatcher and two workers, each a process."""

import collections
import contextlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.data.lists.video_list import VideoList, load_video_list
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.service import check_service, clip_indices, served_dataset, training_indices
from mvit_tf.data.transforms import Augmentation, Preprocessing, denormalise
from mvit_tf.errors import UserError
from tests.data.records.sets import class_folders, make_set
from tests.data.videos import read_numbers

SAMPLING = ClipSampling(num_frames=4, sampling_rate=2)
WHOLE = Augmentation(scale=(1.0, 1.0), ratio=(1.25, 1.25), flip=False)


@contextlib.contextmanager
def serving(*flags, ready):
    """A process of `mvit data-service`; yields the match of `ready` in what it says."""
    code = "import sys; from mvit_tf.cli.main import console; console()"
    command = [sys.executable, "-c", code, "data-service", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            match = re.search(ready, process.stdout.readline())
            yield match
        finally:
            process.terminate()
            assert process.wait(timeout=30) == 130


@pytest.mark.slow
def test_each_clip_comes_once_an_epoch(tmp_path):
    count = 7
    make_set(class_folders(tmp_path / "videos", count=count), tmp_path / "set", num_shards=3)
    records = load_video_list(str(tmp_path / "set"))
    # A class of its own for each video, so that a label tells which one a clip is of; "h" counts
    # in the middle of it.
    videos = VideoList(
        records.paths,
        tuple((number, 7) for number in range(count)),
        tuple("abcdefgh"),
        intervals=(((7, 0.2, 0.3),),) * count,
    )
    preprocessing = Preprocessing(size=(64, 80), short_side=64)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(serving(ready=r"dispatcher on port (\d+)"))[1]
        address = f"localhost:{port}"
        for _ in range(2):
            stack.enter_context(serving(f"--dispatcher={address}", ready="worker of"))
        batches = served_dataset(
            videos,
            sampling=SAMPLING,
            preprocessing=preprocessing,
            augmentation=WHOLE,
            batch_size=2,
            epochs=5,
            start_epoch=2,
            seed=1,
            service=address,
            repeated_augmentation=2,
        )
        taken = [(clips.numpy(), targets.numpy()) for clips, targets in batches]
        path = next((tmp_path / "set").glob("*.tfrecord"))
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(UserError, match="failed: "), OutcomeLedger().user_errors():
            list(batches)
    assert len(taken) == 3 * count
    for epoch in range(3):
        labels = [
            int(targets[0].argmax()) for _, targets in taken[epoch * count : (epoch + 1) * count]
        ]
        assert sorted(labels) == list(range(count))
    # Frames at the rule's distances, and the first one another from epoch to epoch.
    starts = collections.defaultdict(set)
    for (clip, again), targets in taken:
        np.testing.assert_array_equal(clip, again)
        np.testing.assert_array_equal(targets[0], targets[1])
        label = int(targets[0].argmax())
        numbers = read_numbers(denormalise(clip, preprocessing))
        expected = videos.target(label, numbers[0] / 30, numbers[-1] / 30)
        np.testing.assert_array_equal(targets[0], expected)
        possible = [SAMPLING.indices(numbers[0] + part, 30, 30) for part in np.arange(0, 1, 0.05)]
        assert numbers.tolist() in [indices.tolist() for indices in possible]
        starts[label].add(numbers[0])
    assert max(map(len, starts.values())) > 1
    assert {targets[0, 7] for _, targets in taken} == {0, 1}


def test_a_damaged_record_is_one_line():
    message = (
        "{{node}} Failed to get element from worker host:1234: Failed to get an element, with a "
        "nonretryable error: Failed to get element: corrupted record at 12 [Op:IteratorGetNext]"
    )
    said = "data.service: its worker host:1234 failed: corrupted record at 12; `mvit check-data`"
    with pytest.raises(UserError, match=said), OutcomeLedger().user_errors():
        raise tf.errors.DataLossError(None, None, message)


@pytest.mark.parametrize("rule", ["linspace", "stride"])
@pytest.mark.parametrize("short_videos", ["repeat_last", "loop"])
def test_frames_are_those_of_the_sampling_rule(rule, short_videos):
    rng = np.random.default_rng(0)
    in_graph = tf.function(clip_indices)
    for num_frames, rate in [(1, 4.0), (4, 0.3), (16, 4.0), (8, 2.5)]:
        sampling = ClipSampling(num_frames, rate, rule=rule, short_videos=short_videos)
        for _ in range(40):
            count, fps = int(rng.integers(1, 200)), float(rng.choice([12.5, 24, 29.97, 30, 60]))
            start = sampling.random_start(count, fps, rng)
            expected = sampling.indices(start, count, fps)
            got = in_graph(
                tf.constant(start, tf.float64),
                tf.constant(count, tf.int64),
                tf.constant(fps, tf.float64),
                sampling,
            )
            assert got.numpy().tolist() == expected.tolist()


def test_segments_give_one_frame_each():
    sampling = ClipSampling(8, rule="segments")
    first, last = sampling._segments(100)
    seen = np.stack(
        [
            training_indices(
                tf.constant(100, tf.int64), tf.constant(25.0, tf.float64), sampling, [0, key]
            )
            for key in range(200)
        ]
    )
    assert (seen >= first).all() and (seen <= last).all()
    assert (seen.min(0) == first).all() and (seen.max(0) == last).all()


@pytest.mark.parametrize("address", ["localhost:1", "nonsense", "localhost:99999"])
def test_a_service_that_is_not_there_is_refused(address):
    with pytest.raises(UserError, match=f"data.service={address}: "):
        check_service(address)


def test_only_records_are_served():
    with pytest.raises(UserError, match="x.mp4 is none; `mvit prepare` makes one"):
        served_dataset(
            VideoList(("x.mp4",), (0,), ("a",)),
            sampling=SAMPLING,
            preprocessing=Preprocessing(size=(64, 80), short_side=64),
            augmentation=WHOLE,
            batch_size=1,
            epochs=1,
            seed=0,
            service="localhost:1",
        )
