"""The table of published weights, and the way of an entry into a model and the cache."""

import dataclasses
import hashlib

import numpy as np
import pytest

import mvit_tf
from mvit_tf.conversion import published
from mvit_tf.conversion.published import (
    PublishedWeights,
    fetch_published_weights,
    find_published_weights,
    load_published_weights,
    published_weights,
)
from mvit_tf.data.transforms import Preprocessing
from mvit_tf.errors import UserError
from tests.conversion import references
from tests.conversion.loopback import Page, serve

NAME = "torchvision_v1"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path / "mvit_tf"


def small_entry(address, **changes):
    """An entry as the table's, for the small model of a reference."""
    config = references.arrays(NAME)["config"]
    fields = ("input_shape", "embed_dim", "depths", "key_stride", "num_classes")
    entry = find_published_weights("mvit_b_16x4", "kinetics400")
    return dataclasses.replace(
        entry,
        url=f"{address}/small.pth",
        sha256=None,
        fields={field: getattr(config, field) for field in fields},
        **changes,
    )


def test_table_is_whole():
    entries = published_weights()
    assert len(entries) == 20
    assert len({(entry.model, entry.set) for entry in entries}) == len(entries)
    assert len({entry.file_name for entry in entries}) == len(entries)
    for entry in entries:
        config = entry.config
        preprocessing = Preprocessing.from_dict(entry.preprocessing)
        assert preprocessing.size == config.input_size[1:]
        assert entry.url.startswith("https://")
        assert entry.licence and entry.source
        assert (entry.sampling.get("num_frames", 1), config.image) == (
            config.input_size[0],
            not entry.sampling,
        )
        if entry.set.startswith("kinetics400"):
            assert config.num_classes == 400 and entry.top1 > 78
        if entry.set == "ssv2":
            assert config.num_classes == 174
            # SlowFast's OpenCV decodes BGR, and DATA.REVERSE_INPUT_CHANNEL of its files turns it.
            assert (preprocessing.channel_order, entry.sampling["rule"]) == ("rgb", "segments")
        if entry.model == "mvitv2_l_40x3":
            assert preprocessing.mean == (0.485, 0.456, 0.406)


def test_scores_as_published():
    scores = {(entry.model, entry.set): entry.top1 for entry in published_weights()}
    assert scores["mvitv2_b_32x3", "kinetics400"] == 82.9
    assert scores["mvitv2_l_40x3", "ssv2"] == 73.3
    assert scores["mvit_b24_32x3_slowfast", "kinetics400"] == 80.4
    assert scores["mvitv2_s", "imagenet1k"] == 83.6


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        ("mvit_b_16x4", "ssv2", "it has kinetics400, kinetics400-pytorchvideo; ssv2 is there for"),
        ("mvit_b_64x3", "kinetics400", "nobody has published any for it"),
        ("mvit_b_16x5", "kinetics400", "did you mean 'mvit_b_16x4'?"),
    ],
)
def test_unknown_sets(model, name, message):
    with pytest.raises(UserError) as caught:
        find_published_weights(model, name)
    assert message in str(caught.value)


def test_downloads_once_loads_and_computes(cache):
    page = Page(references.weights_path(NAME).read_bytes())
    stored = references.arrays(NAME)
    with serve({"small.pth": page}) as address:
        entry = small_entry(address)
        model = mvit_tf.build_mvit(entry.config)
        report = load_published_weights(model, entry)
        assert report.layout == "torchvision" and not report.fresh
        assert references.relative_error(model(stored["frames"]), stored["logits"]) < 1e-5
        load_published_weights(model, entry)
        other = mvit_tf.build_mvit(entry.config.replace(num_classes=3, input_shape=(8, 48, 48, 3)))
        report = load_published_weights(other, entry)
    assert report.fresh == ("head/kernel", "head/bias")
    assert report.resized == ("positions/spatial", "positions/temporal")
    assert page.requests == [None]
    assert sorted(path.name for path in cache.iterdir()) == [
        "mvit_b_16x4-kinetics400-small.pth",
        "mvit_b_16x4-kinetics400-small.pth.sha256",
    ]


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (Page(b"<html>Sign in</html>"), "small.pth is a web page"),
        (Page(b"<html>Sign in</html>", content_type="text/html"), "answered with a web page"),
        (Page(references.weights_path(NAME).read_bytes()[:60_000]), "cut off or damaged"),
    ],
)
def test_nothing_wrong_reaches_the_cache(cache, page, message):
    with serve({"small.pth": page}) as address, pytest.raises(UserError, match=message) as caught:
        fetch_published_weights(small_entry(address))
    assert address in str(caught.value)
    assert list(cache.iterdir()) == []


def test_wrong_checksum_of_an_entry(cache):
    page = Page(references.weights_path(NAME).read_bytes())
    with serve({"small.pth": page}) as address, pytest.raises(UserError, match="other bytes"):
        fetch_published_weights(dataclasses.replace(small_entry(address), sha256="dbeb1030"))
    assert list(cache.iterdir()) == []


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert published.cache_folder() == tmp_path / "mvit_tf"
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert published.cache_folder() == tmp_path / "home" / ".keras" / "mvit_tf"


def test_entries_are_plain_and_frozen():
    entry = find_published_weights("mvitv2_b", "imagenet21k")
    assert isinstance(entry, PublishedWeights)
    assert entry.config.class_token and entry.config.num_classes == 19168
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.model = "other"
    np.testing.assert_equal(entry.preprocessing["size"], [224, 224])


def test_entries_share_no_values():
    """YAML repeats an anchor's mapping as one object."""
    first, second = published_weights()[:2]
    assert first.preprocessing == second.preprocessing
    first.preprocessing["short_side"] = 1
    first.preprocessing["size"].append(0)
    assert second.preprocessing["short_side"] == 256 and second.preprocessing["size"] == [224, 224]
    assert published_weights()[0].preprocessing == second.preprocessing


@pytest.mark.parametrize(
    ("name", "count", "anchors"),
    [
        # What PyTorchVideo's, SlowFast's and I3D's users know by number.
        ("kinetics400", 400, {0: "abseiling", 5: "archery", 19: "bench pressing",
                              115: "eating ice cream", 231: "playing flute",
                              290: "sharpening knives", 358: "throwing discus", 399: "zumba"}),
        ("kinetics600", 600, {0: "abseiling", 1: "acting in play",
                              82: "changing wheel (not on bike)",
                              308: "passing American football (in game)",
                              309: "passing american football (not in game)", 599: "zumba"}),
        ("ssv2", 174, {0: "Approaching something with your camera",
                       56: "Poking something so lightly that it doesn't or almost doesn't move",
                       160: "Touching (without moving) part of something",
                       173: "Wiping something off of something"}),
        ("imagenet1k", 1000, {0: "tench", 207: "golden retriever", 340: "zebra",
                              701: "parachute", 999: "toilet tissue"}),
    ],
)  # fmt: skip
def test_class_lists(name, count, anchors):
    names = published.load_class_list(name)
    assert len(names) == len(set(names)) == count
    assert {index: names[index] for index in anchors} == anchors
    if name != "imagenet1k":
        assert list(names) == sorted(names)


def test_every_entry_names_its_classes():
    for entry in published_weights():
        if entry.set == "imagenet21k":
            assert entry.class_names is None
        else:
            assert len(entry.class_names) == entry.config.num_classes


def test_a_damaged_file_in_the_cache_is_fetched_again(cache, capsys):
    content = references.weights_path(NAME).read_bytes()
    page = Page(content)
    with serve({"small.pth": page}) as address:
        entry = small_entry(address)
        path = fetch_published_weights(entry)
        record = path.with_name(path.name + ".sha256")
        assert record.read_text() == f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"
        # One bit, in the bytes of a tensor, which no format would notice.
        damaged = bytearray(content)
        damaged[len(content) // 2] ^= 1
        path.write_bytes(damaged)
        assert fetch_published_weights(entry) == path
        assert path.read_bytes() == content
        assert "is damaged; it is downloaded again" in capsys.readouterr().err
        assert page.requests == [None, None]

        # Of an older version's download nothing is recorded: it must at least be readable.
        record.unlink()
        assert fetch_published_weights(entry) == path and record.is_file()
        record.unlink()
        path.write_bytes(content[:1000])
        fetch_published_weights(entry)
        assert path.read_bytes() == content and page.requests == [None] * 3

        known = dataclasses.replace(entry, sha256=hashlib.sha256(content).hexdigest()[:8])
        path.write_bytes(damaged)
        record.unlink()
        fetch_published_weights(known)
        assert path.read_bytes() == content
