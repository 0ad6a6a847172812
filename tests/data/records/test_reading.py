"""Records read as videos are: frames to the pixel, damage by file and offset."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mvit_tf.data.clips import clip_parts, evaluation_frames, gather_frames, whole_clips
from mvit_tf.data.lists.saved_split import SavedSplit, save_split
from mvit_tf.data.lists.video_list import load_video_list
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import evaluation_views, train_dataset
from mvit_tf.data.preprocessing import Augmentation, Preprocessing
from mvit_tf.data.records.examples import FRAMES, VIDEO
from mvit_tf.data.records.reading import open_source, parse_record_name
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.video.decoding import DecodeError, open_video
from mvit_tf.errors import UserError
from tests.data.videos import read_numbers, write_numbered

from .sets import class_folders, make_set

SAMPLING = ClipSampling(num_frames=4, sampling_rate=2)
PREPROCESSING = Preprocessing(size=(16, 16), short_side=20)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def prepared(videos, tmp_path_factory):
    """A set of that size and quality; its folder and manifest."""
    folder = tmp_path_factory.mktemp("prepared")
    return folder, make_set(videos, folder, quality=95)


def examples_of(path):
    return [
        tf.train.SequenceExample.FromString(data.numpy())
        for data in tf.data.TFRecordDataset(str(path))
    ]


def jpeg(frame, quality):
    content = io.BytesIO()
    Image.fromarray(frame).save(content, "JPEG", quality=quality)
    return np.asarray(Image.open(content))


def damage(path, position, count=1):
    content = bytearray(path.read_bytes())
    for place in range(position, position + count):
        content[place] ^= 0xFF
    path.write_bytes(content)


def test_frames_are_those_of_the_video_through_jpeg(videos, prepared):
    folder, manifest = prepared
    found = load_video_list(folder)
    assert found.class_names == ("a", "b")
    records = [record for shard in manifest.shards for record in shard.records]
    assert len(found) == len(records) == 6
    for path, label, record in zip(found.paths, found.labels, records, strict=True):
        assert parse_record_name(path)[1] == record.offset and record.labels[0] == label
        with open_video(videos / record.source) as video, open_source(path) as reader:
            assert reader.info.num_frames == video.info.num_frames == record.num_frames
            assert reader.info.fps == video.info.fps
            indices = np.random.default_rng(record.offset).integers(0, record.num_frames, 9)
            expected = [jpeg(frame, 95) for frame in video.frames_at_indices(indices)]
            np.testing.assert_array_equal(reader.frames_at_indices(indices), expected)
            (clip,) = whole_clips(clip_parts(path, SAMPLING, 1))
            in_turn = reader.frames_at_indices(range(record.num_frames))
            (picks,) = SAMPLING.evaluation_indices(record.num_frames, 30, 1)
            np.testing.assert_array_equal(clip, in_turn[picks])


def test_short_side_and_rate(tmp_path):
    video = (
        write_numbered(tmp_path / "v" / "a" / "a.mp4", 50)
        if os.makedirs(tmp_path / "v" / "a") is None
        else None
    )
    make_set(tmp_path / "v", tmp_path / "set", num_shards=1, short_side=32, fps=12.0)
    (path,) = load_video_list(tmp_path / "set").paths
    with open_source(path) as reader, open_video(video) as source:
        assert (reader.info.width, reader.info.height, reader.info.fps) == (40, 32, 12.0)
        assert reader.info.num_frames == 20
        shown = np.repeat(np.repeat(reader.frames_at_indices(range(20)), 2, 1), 2, 2)
        assert read_numbers(shown).tolist() == [int(n * 2.5) for n in range(20)]
        assert source.info.num_frames == 50


def test_segments_are_cut_out(tmp_path):
    write_numbered(tmp_path / "long.mp4", 90)
    listed = tmp_path / "list.csv"
    listed.write_text("path,label,start,end\nlong.mp4,x,1,2\nlong.mp4,y,2,3\n")
    for frames in ("jpeg", "video"):
        make_set(listed, tmp_path / frames, num_shards=1, frames=frames)
        found = load_video_list(tmp_path / frames)
        assert found.groups == ("long.mp4", "long.mp4")
        for index, path in enumerate(found.paths):
            segment = found.segment(index)
            shown, _ = gather_frames(
                evaluation_frames(path, SAMPLING, 1, segment), lambda frames, _: frames
            )
            first = {"x": 30, "y": 60}[found.class_names[found.labels[index]]]
            numbers = read_numbers(shown)
            assert first <= numbers.min() and numbers.max() < first + 30


def test_the_video_as_it_is(videos, tmp_path):
    manifest = make_set(videos, tmp_path, frames="video")
    found = load_video_list(tmp_path)
    sources = [record.source for shard in manifest.shards for record in shard.records]
    for path, source in zip(found.paths, sources, strict=True):
        with open_source(path) as reader, open_video(videos / source) as video:
            assert reader.info == video.info
            frames = reader.frames_at_indices([15, 3])
            np.testing.assert_array_equal(frames, video.frames_at_indices([15, 3]))
    (example, *_) = examples_of(tmp_path / manifest.shards[0].file)
    (content,) = example.feature_lists.feature_list[VIDEO].feature[0].bytes_list.value
    assert content == (videos / sources[0]).read_bytes()
    assert not example.feature_lists.feature_list[FRAMES].feature


def test_training_and_evaluation_give_the_same_twice(prepared):
    folder, _ = prepared
    videos = load_video_list(folder / "set-manifest.json")

    def batches():
        ledger = OutcomeLedger()
        training = train_dataset(
            videos, sampling=SAMPLING, preprocessing=PREPROCESSING, augmentation=Augmentation(),
            batch_size=2, epochs=2, seed=3, ledger=ledger, num_parallel=2,
        )  # fmt: skip
        views = evaluation_views(
            videos, sampling=SAMPLING, preprocessing=PREPROCESSING, num_clips=2, num_crops=1,
            batch_size=4, ledger=ledger,
        )  # fmt: skip
        taken = [
            part.numpy() for dataset in (training, views) for batch in dataset for part in batch
        ]
        assert not ledger.failures and len(ledger) == 6
        return taken

    for one, other in zip(batches(), batches(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_damaged_record_is_named_and_the_others_are_read(videos, tmp_path):
    manifest = make_set(videos, tmp_path, num_shards=1)
    (shard,) = manifest.shards
    file = tmp_path / shard.file
    first, second, third, *_ = shard.records
    damage(file, first.offset + first.length)  # In the data.
    damage(file, second.offset)  # In the length.
    content = file.read_bytes()
    file.write_bytes(content[: shard.records[-1].offset + 50])
    found = load_video_list(tmp_path)
    ledger = OutcomeLedger()
    dataset = evaluation_views(
        found, sampling=SAMPLING, preprocessing=PREPROCESSING, num_clips=1, num_crops=1,
        batch_size=1, ledger=ledger,
    )  # fmt: skip
    assert [int(index[0]) for _, index in dataset] == [2, 3, 4]
    assert ledger.failures == {
        f"{file}#{first.offset}": (
            "corrupt_record",
            "its data does not have the checksum that it was written with",
        ),
        f"{file}#{second.offset}": (
            "corrupt_record",
            "its length does not have the checksum that it was written with",
        ),
        f"{file}#{shard.records[-1].offset}": (
            "corrupt_record",
            "it is cut off at the end of the file",
        ),
    }
    (tmp_path / "set-manifest.json").unlink()
    with pytest.raises(UserError, match="without a manifest.*set-00000|'.*\\*.tfrecord'"):
        load_video_list(tmp_path)
    # Without an index, what follows a damaged length is lost.
    found = load_video_list(str(tmp_path / "*.tfrecord"))
    assert len(found) == 1
    assert found.passed_over[0][0] == f"{file}#{second.offset}"
    assert "nothing after it can be found" in found.passed_over[0][1]


def test_held_out_records_are_known_again(prepared, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in prepared[0].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    videos = load_video_list(folder)
    save_split(tmp_path / "split.csv", videos.subset([0, 1]), videos.subset([2, 3, 4, 5]))
    saved = SavedSplit(tmp_path / "split.csv", videos.class_names)
    saved.check_held_out()
    assert len(saved.rest_of(videos)) == 2
    file, offset = parse_record_name(videos.paths[5])
    damage((folder / file.split("/")[-1]), offset)
    with pytest.raises(UserError, match=f"1 videos held out.*#{offset}"):
        saved.check_held_out()


def test_a_picture_that_is_none(tmp_path):
    example = tf.train.SequenceExample()
    example.context.feature["clip/label/index"].int64_list.value.append(1)
    for content in (b"no picture", b""):
        step = example.feature_lists.feature_list[FRAMES].feature.add()
        step.bytes_list.value.append(content)
    file = tmp_path / "x.tfrecord"
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(example.SerializeToString())
        writer.write(b"\xff\xff")
        writer.write(tf.train.SequenceExample().SerializeToString())
    end = 12 + len(example.SerializeToString()) + 4
    for offset, outcome in (
        (0, "decode_error"),
        (end, "corrupt_record"),
        (end + 18, "corrupt_record"),
    ):
        with pytest.raises(DecodeError) as caught, open_source(f"{file}#{offset}"):
            pass
        assert caught.value.outcome == outcome and caught.value.path == f"{file}#{offset}"


def test_reading_imports_no_tensorflow(prepared):
    path = load_video_list(prepared[0]).paths[0]
    code = (
        "import sys\nfrom mvit_tf.data.clips import clip_parts, whole_clips\n"
        "from mvit_tf.data.records.encoding import Encoding\n"
        "from mvit_tf.data.sampling import ClipSampling\n"
        f"(clip,) = whole_clips(clip_parts({path!r}, ClipSampling(num_frames=4), 1))\n"
        "print(clip.shape, sorted({'tensorflow', 'keras'} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "(4, 64, 80, 3) []\n"
