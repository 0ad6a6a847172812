"""Record sets of other tools, read by us; and ours, read by the Model Garden."""

import numpy as np
import pytest
import tensorflow as tf
from official.vision.configs import video_classification
from official.vision.dataloaders import tfexample_utils, video_input

from mvit_tf.data.lists.video_list import load_video_list
from mvit_tf.data.records.reading import open_source
from mvit_tf.errors import UserError

from .sets import class_folders, make_set


def sequence_example(**context):
    """A SequenceExample of four JPEG frames; keys with "__" for "/"."""
    # By the parts of `make_video_test_example`, which itself fails on the newest NumPy.
    example = tf.train.SequenceExample()
    ramp = np.linspace(0, 255, 36 * 48 * 3).reshape(36, 48, 3).astype(np.uint8)
    picture = tf.io.encode_jpeg(ramp).numpy()
    tfexample_utils.put_bytes_list_to_feature(example, picture, repeat_num=4)
    tfexample_utils.put_float_list_to_feature(example, [[0.5, 1.0]], tfexample_utils.AUDIO_KEY)
    for key, value in context.items():
        feature = example.context.feature[key.replace("__", "/")]
        values = value if isinstance(value, list) else [value]
        kind = feature.int64_list if isinstance(values[0], int) else feature.bytes_list
        kind.value.extend(v.encode() if isinstance(v, str) else v for v in values)
    return example


def write(path, *examples):
    tfexample_utils.dump_to_tfrecord(str(path), list(examples))
    return str(path)


def test_a_set_of_the_model_garden(tmp_path):
    for shard, labels in enumerate(([3, 0], [1])):
        made = [sequence_example() for _ in labels]
        for example, label in zip(made, labels, strict=True):
            tfexample_utils.put_int64_to_context(example, label)
        write(tmp_path / f"train.tfrecord-{shard:05d}-of-00002", *made)
    videos = load_video_list(str(tmp_path / "train.tfrecord-*"))
    assert videos.labels == (3, 0, 1) and videos.class_names == ("0", "1", "2", "3")
    with open_source(videos.paths[0]) as reader:
        assert reader.info.num_frames == 4 and reader.info.fps == 30
        frames = reader.frames_at_indices([3, 0])
    assert frames.shape == (2, 36, 48, 3)
    (example,) = tf.data.TFRecordDataset(str(tmp_path / "train.tfrecord-00000-of-00002")).take(1)
    encoded = tf.train.SequenceExample.FromString(example.numpy())
    steps = encoded.feature_lists.feature_list["image/encoded"].feature
    expected = tf.io.decode_jpeg(steps[3].bytes_list.value[0], dct_method="INTEGER_ACCURATE")
    assert (
        abs(frames[0].astype(int) - expected.numpy()).max() <= 4
    )  # Chroma is upsampled otherwise.


def test_both_spellings_of_labels_and_sources(tmp_path):
    dmvr = sequence_example(
        clip__label__index=2, clip__label__text="jump", video__filename="m1.mp4",
        clip__start__timestamp=0, clip__end__timestamp=400_000,
    )  # fmt: skip
    media_sequence = sequence_example(
        clip__label__index=0, clip__label__string="run", clip__data_path="m1.mp4"
    )
    videos = load_video_list(write(tmp_path / "x.tfrecord", dmvr, media_sequence))
    assert videos.labels == (2, 0) and videos.class_names == ("run", "1", "jump")
    assert videos.groups == ("m1.mp4", "m1.mp4")
    with open_source(videos.paths[0]) as reader:
        assert reader.info.fps == 10 and reader.info.num_frames == 4
    # By the classes of a trained model, by name.
    videos = load_video_list(tmp_path / "x.tfrecord", class_names=("jump", "run"))
    assert videos.labels == (0, 1)
    only_text = [sequence_example(clip__label__text=name) for name in ("b", "a")]
    videos = load_video_list(write(tmp_path / "y.tfrecord", *only_text))
    assert videos.labels == (1, 0) and videos.class_names == ("a", "b")


def test_a_context_that_is_long_or_comes_last(tmp_path):
    long = sequence_example(clip__label__index=1, note="x" * 40_000)
    last = sequence_example(clip__label__index=0)
    lists = tf.train.SequenceExample(feature_lists=last.feature_lists)
    context = tf.train.SequenceExample(context=last.context)
    path = str(tmp_path / "x.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(long.SerializeToString())
        writer.write(lists.SerializeToString() + context.SerializeToString())
    assert load_video_list(path).labels == (1, 0)


def test_what_is_no_set_is_refused(tmp_path):
    several = write(tmp_path / "x.tfrecord", sequence_example(clip__label__index=[1, 2]))
    with pytest.raises(UserError, match=r"x\.tfrecord#0: 2 labels"):
        load_video_list(several)
    with pytest.raises(UserError, match=r"y\.tfrecord: no such file"):
        load_video_list(tmp_path / "y.tfrecord")
    with pytest.raises(UserError, match=r"z-\*: no file of records matches"):
        load_video_list(str(tmp_path / "z-*"))
    (tmp_path / "t.tfrecord").write_text("no records in here")
    with pytest.raises(UserError, match=r"no record can be read: .*t\.tfrecord#0: corrupt_record"):
        load_video_list(tmp_path / "t.tfrecord")


def test_ours_is_read_by_the_model_garden(tmp_path):
    class_folders(tmp_path / "videos", count=2)
    manifest = make_set(tmp_path / "videos", tmp_path / "set", num_shards=1)
    config = video_classification.DataConfig(
        feature_shape=(4, 32, 32, 3), temporal_stride=2, num_classes=2, min_image_size=40,
        is_training=False, one_hot=True,
    )  # fmt: skip
    decode = video_input.Decoder().decode
    parse = video_input.Parser(config).parse_fn(is_training=False)
    dataset = tf.data.TFRecordDataset(str(tmp_path / "set" / manifest.shards[0].file))
    read = list(dataset.map(lambda data: parse(decode(data))))
    assert [int(tf.argmax(label)) for _, label in read] == [
        record.labels[0] for record in manifest.shards[0].records
    ]
    assert all(features["image"].shape == (4, 32, 32, 3) for features, _ in read)
