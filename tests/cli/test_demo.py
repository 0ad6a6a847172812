"""`mvit demo`, in small: every stage runs, everything lies where it says, nothing else is said."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from benchmarks import localisation
from mvit_tf.export.predictor import open_predictor
from tests.own_words import own_words

EXPERIMENT = {
    "model": {
        "name": "mvit_s_16x4",
        "input_shape": [4, 32, 32, 3],
        "overrides": {"depths": [1, 1], "embed_dim": 16},
    },
    "data": {"sampling_rate": 2, "short_side": 32, "flip": False, "evaluation_clips": 2},
    "train": {"epochs": 1, "batch_size": 8},
}

DEMO = """
import sys
from pathlib import Path
from mvit_tf.cli.startup import quiet_tensorflow, run_cli
quiet_tensorflow()
from mvit_tf.cli.demo import run_demo

output, config = map(Path, sys.argv[1:])
counts = {"train": 2, "validation": 1, "held_out": 1}
sys.exit(run_cli(lambda: run_demo(output, config, counts)))
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    ended = subprocess.run(
        [sys.executable, "-c", DEMO, folder / "run", folder / "tiny.yaml"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return folder / "run", ended


def test_everything_lies_where_the_demo_says(demo):
    output, ended = demo
    for split, count in (("train", 16), ("validation", 8), ("held_out", 8)):
        assert len(list((output / "videos" / split).glob("*/*.mp4"))) == count
    for name in (
        "plots/training_curves.png",
        "plots/confusion_matrix.png",
        "evaluation.json",
        "evaluation_shuffled_frames.json",
        "export/1/saved_model.pb",
        "export/1/assets/metadata.json",
    ):
        assert (output / "model" / name).stat().st_size > 0
    closing = ended.stdout.partition("\nDone\n")[2]
    for place in ("videos", "model/plots/training_curves.png", "model/export/1"):
        assert f" {output / place}\n" in closing
    assert "of 8, with shuffled frames" in closing


def test_held_out_videos_are_predicted_from_the_saved_model(demo):
    output, ended = demo
    predicted = ended.stdout.partition("\nPredicting")[2].partition("\nDone")[0].splitlines()
    videos = [line for line in predicted if line.endswith(".mp4")]
    assert len(videos) == 4
    assert all(line.startswith(str(output / "videos" / "held_out")) for line in videos)
    assert sum("%" in line for line in predicted) == 4 * 3


def test_nothing_but_the_projects_own_words_is_printed(demo):
    (few,) = own_words(demo[1].stderr).splitlines()
    assert few.startswith("warning: 8 of 8 classes with fewer than 5 videos: ")


@pytest.fixture(scope="module")
def real_demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real_demo")
    command = "import sys; from mvit_tf.cli.main import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", command, "demo", "--output", folder], check=True)
    return folder


@pytest.mark.slow
def test_the_real_demo_learns_motion_from_the_order_of_the_frames(real_demo):
    scores = [
        json.loads((real_demo / "model" / name).read_text())
        for name in ("evaluation.json", "evaluation_shuffled_frames.json")
    ]
    in_order, shuffled = (score["top1_of_all"] for score in scores)
    assert in_order >= 0.95
    assert shuffled < 0.30  # MViT, Table 9: what order is worth to the model


@pytest.mark.slow
def test_the_real_demos_evidence_lies_on_what_moves(real_demo):
    """And that of the same model before its training does not."""
    model = open_predictor(real_demo / "model").model
    videos = real_demo / "videos" / "held_out"
    for weights, check in (
        (model, lambda share: share >= 0.9),
        (localisation.with_random_weights(model), lambda share: share <= 0.5),
    ):
        found = localisation.measure(weights, videos, per_class=5, methods=("relevance",))
        assert check((found["relevance"] > localisation.LEAST_ENRICHMENT).mean())
