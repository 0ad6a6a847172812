"""The table of published weights, and the way of an entry into a model and the cache."""

import dataclasses

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
    fields = ("input_size", "embed_dim", "depths", "key_stride", "num_classes")
    entry = find_published_weights("mvit_b_16x4", "kinetics400")
    return dataclasses.replace(
        entry,
        address=f"{address}/small.pth",
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
        assert entry.address.startswith("https://")
        assert entry.licence and entry.source
        assert (entry.sampling.get("num_frames", 1), config.image) == (
            config.input_size[0],
            not entry.sampling,
        )
        if entry.set.startswith("kinetics400"):
            assert config.num_classes == 400 and entry.top1 > 78
        if entry.set == "ssv2":
            assert config.num_classes == 174
            assert (preprocessing.channel_order, entry.sampling["rule"]) == ("bgr", "segments")
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
        other = mvit_tf.build_mvit(entry.config.replace(num_classes=3, input_size=(8, 48, 48)))
        report = load_published_weights(other, entry)
    assert report.fresh == ("head/kernel", "head/bias")
    assert report.resized == ("positions/spatial", "positions/temporal")
    assert page.requests == [None]
    assert [path.name for path in cache.iterdir()] == ["mvit_b_16x4-kinetics400-small.pth"]


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
