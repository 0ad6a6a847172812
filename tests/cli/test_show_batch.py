"""`mvit show-batch`: the first training batch as a picture."""

import numpy as np
import pytest
from matplotlib.image import imread

from mvit_tf.cli.main import main
from mvit_tf.cli.show_batch import format_label
from tests.training.tiny import write_config, write_videos


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("experiment")
    return write_config(root / "tiny.yaml", write_videos(root / "videos", videos_per_class=2))


def test_the_picture_shows_the_clips_as_they_are_augmented(config, tmp_path, capsys):
    pictures = {}
    for name, keys in {"plain": "train.batch_size=3", "mixed": "data.mixup_alpha=1.0"}.items():
        picture = tmp_path / f"{name}.png"
        arguments = ["show-batch", str(config), f"--params_override={keys}", f"--output={picture}"]
        assert main(arguments) == 0
        printed = capsys.readouterr()
        count = 3 if name == "plain" else 8
        assert printed.out == f"{picture}: {count} of {count} clips of the first batch\n"
        pictures[name] = imread(picture)
    # Rows of four square frames each.
    assert 2.4 < len(pictures["mixed"]) / len(pictures["plain"]) < 2.7


def test_labels_name_the_heaviest_class_first():
    names = ("left", "right", "up")
    assert format_label(np.array([0, 1, 0]), names) == "right"
    assert format_label(np.array([0.3, 0, 0.7]), names) == "0.70 up\n0.30 left"
    assert format_label(np.array([0.998, 0.002, 0]), names) == "left"
    # Of several labels none is heavier, and there may be none.
    assert sorted(format_label(np.array([1, 0, 1]), names).split("\n")) == ["left", "up"]
    assert format_label(np.zeros(3), names) == "no label"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no config 'nothing'"),
        (["demo"], "data.train is not set"),
        (["demo", "--output=batch.jpg"], "must end in .png"),
        (["demo", "--params_override=data.rand_augment=yes"], "must start with 'rand'"),
    ],
)
def test_mistakes_end_in_one_line(arguments, message, capsys):
    assert main(["show-batch", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_a_picture_that_cannot_be_written_is_said_in_one_line(config, tmp_path, capsys):
    assert main(["show-batch", str(config), f"--output={tmp_path}/nowhere/batch.png"]) == 2
    error = capsys.readouterr().err
    assert error.endswith("cannot be written: No such file or directory\n")
    assert error.count("\n") == 1
