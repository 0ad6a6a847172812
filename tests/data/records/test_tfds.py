"""A video set of TensorFlow Datasets, built here, and read at random from its files."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from mvit_tf.data.clips import clip_parts, whole_clips
from mvit_tf.data.lists.video_list import load_video_list
from mvit_tf.data.records import examples
from mvit_tf.data.records.tfds import find_tfds_folder
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.errors import UserError
from mvit_tf.training.experiments.experiment import load_experiment
from mvit_tf.training.experiments.videos import (
    evaluation_videos,
    labelled_videos,
    train_and_validation,
)

if not hasattr(tfds, "core"):
    # Reading needs no such package, but making a set to be read does.
    pytest.skip("tensorflow-datasets cannot be imported here", allow_module_level=True)


class TinyVideos(tfds.core.GeneratorBasedBuilder):
    """The features of ucf101."""

    # Where the set has files of its own; looking for them needs a package that may be missing.
    code_path = None
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "video": tfds.features.Video((None, 16, 24, 3)),
            "label": tfds.features.ClassLabel(names=["left", "right"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, _):
        return {"train": self._generate_examples(4), "test": self._generate_examples(2)}

    def _generate_examples(self, count):
        for number in range(count):
            yield number, {"video": frames_of(number), "label": number % 2}


def frames_of(number):
    noise = np.random.default_rng(number).integers(0, 256, (6, 16, 24, 3))
    return noise.astype(np.uint8)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    TinyVideos(data_dir=folder).download_and_prepare()
    return str(folder)


def test_videos_by_random_access(data_dir, monkeypatch):
    # Heads as of a large set: frames are passed over, not read.
    monkeypatch.setattr(examples, "HEAD_BYTES", 500)
    folder = find_tfds_folder("tiny_videos", data_dir)
    with pytest.raises(UserError, match="split holds 'test', 'train'; say which"):
        load_video_list(folder)
    videos = load_video_list(folder, split="train")
    assert len(videos) == 4 and videos.class_names == ("left", "right")
    found = set()
    for path, label in zip(videos.paths, videos.labels, strict=True):
        rule = ClipSampling(num_frames=6, sampling_rate=1)
        (clip,) = whole_clips(clip_parts(path, rule, 1))
        (number,) = [n for n in range(4) if np.array_equal(clip, frames_of(n))]
        assert number % 2 == label
        found.add(number)
    assert found == set(range(4))


def test_keys_of_an_experiment(data_dir):
    keys = f"data.tfds_name=tiny_videos,data.tfds_data_dir={data_dir},data.train_split=train"
    experiment = load_experiment(None, f"{keys},data.validation_split=test")
    train, validation = train_and_validation(experiment, labelled_videos(experiment), None)
    assert (len(train), len(validation)) == (4, 2)
    assert evaluation_videos(experiment, ("left", "right"), None) == validation
    held_out = load_experiment(None, f"{keys},data.validation_fraction=0.5")
    train, validation = train_and_validation(held_out, labelled_videos(held_out), None)
    assert (len(train), len(validation)) == (2, 2)
    with pytest.raises(UserError, match="data.train and data.tfds_name are both set"):
        load_experiment(None, f"{keys},data.train=x")


def test_which_folder(tmp_path):
    for path in ("one/1.9.0", "one/1.10.0", "two/a/1.0.0", "two/b/1.0.0"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "dataset_info.json").touch()

    def found(name):
        return str(Path(find_tfds_folder(name, str(tmp_path))).relative_to(tmp_path))

    assert found("one") == "one/1.10.0" and found("one:1.9.0") == "one/1.9.0"
    assert found("two/b") == "two/b/1.0.0"
    with pytest.raises(UserError, match="several configurations, give one: two/a, two/b"):
        found("two")
    for name in ("ucf101", "one:3.0.0"):
        with pytest.raises(UserError, match="data.tfds_name=.* is built in .*tfds build"):
            found(name)
