"""What the documentation shows in Python, and the commands of the walk-through, do run."""

import importlib.util
import shlex

import keras
import numpy as np
import pytest

import mvit_tf
from mvit_tf.cli.main import main
from mvit_tf.data.preprocessing import Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.export.predictor import open_predictor
from mvit_tf.export.saved_model import export_model
from mvit_tf.models import get_config
from tests.docs import pages
from tests.training.tiny import tiny_model, write_videos

pytestmark = pytest.mark.slow

ON_JAX = "run alone, KERAS_BACKEND=jax"
# Keys that make an experiment of a page one of seconds.
SMALLER = (
    "model.name=mvit_s_16x4,model.input_shape=[4,32,32,3],model.overrides.depths=[1,1],"
    "model.overrides.embed_dim=16,data.short_side=36,data.evaluation_clips=2,data.decode_workers=1,"
    "train.epochs=2,train.warmup_epochs=1,train.learning_rate=3e-3,"
    "model.initial_weights=null,model.reset_head=false"
)


def small_config(name):
    """The config of a name with two blocks, on clips of four small frames."""
    return get_config(name).replace(input_shape=(4, 32, 32, 3), depths=(1, 1), embed_dim=16)


@pytest.fixture
def small_models(monkeypatch, tmp_path):
    """Named models are small ones; the current folder is empty."""
    monkeypatch.setattr("mvit_tf.factory.get_config", small_config)
    monkeypatch.setattr(mvit_tf, "get_config", small_config, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_command(line):
    """A command as it stands, but for a smaller experiment."""
    program, *arguments = shlex.split(line)
    assert program == "mvit"
    if arguments[0] in ("train", "show-batch"):
        (overrides,) = [index for index, text in enumerate(arguments) if "--params" in text]
        arguments[overrides] += f",{SMALLER}"
    assert main(arguments) == 0, line


def test_the_page_for_keras(small_models):
    write_videos(small_models / "my_videos", videos_per_class=2)
    names, ran = pages.run_page("docs/keras.md", skip_notes=("not run", ON_JAX))
    assert ran == len(pages.blocks_of("docs/keras.md")) - 2
    assert tuple(names["model"].class_names) == tuple(names["training"].class_names)
    assert names["end_to_end"].predict(names["frames"], verbose=0).shape == (2, 8)
    assert next(iter(names["dataset"])).shape == (2, 4, 32, 32, 3)
    assert names["two_heads"](names["clips"])["direction"].shape == (8, 8)
    assert names["half"](names["clips"]).dtype == "float32"
    np.testing.assert_allclose(
        names["again"](names["clips"]), names["model"](names["clips"]), rtol=0, atol=1e-6
    )
    theirs = names["theirs"]
    x = np.random.default_rng(0).standard_normal((1, *theirs.input_shape[1:])).astype("float32")
    np.testing.assert_array_equal(keras.saving.load_model("theirs.keras")(x), theirs(x))
    merged = small_config("mvit_s_16x4").replace(num_classes=8)
    mvit_tf.MViT(merged).load_weights("merged.weights.h5")


def test_the_block_on_jax(small_models):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("needs jax, which the extra `compare` brings")
    tiny_model().save_to_preset("my_preset")
    (block,) = [b for b in pages.blocks_of("docs/keras.md") if b.note == ON_JAX]
    pages.run_alone(block, "docs/keras.md")


def test_the_walk_through(small_models):
    names, ran = pages.run_page("docs/walkthrough.md", run_command=run_command)
    assert ran == len(pages.blocks_of("docs/walkthrough.md")) == 12
    served = open_predictor(small_models / "runs/mine/export")
    video = "my_videos/up/up_0000.mp4"
    np.testing.assert_allclose(
        served.predict_video(video), names["predictor"].predict_video(video), rtol=0, atol=1e-5
    )
    np.testing.assert_array_equal(
        names["again"].predict_videos([video])[0].probabilities,
        names["model"].predict_videos([video])[0].probabilities,
    )


def test_the_readme(small_models):
    model = tiny_model()
    model.class_names = ("a", "b", "c")
    model.preprocessing = Preprocessing(size=(32, 32), short_side=36)
    model.sampling = ClipSampling(num_frames=4)
    export_model(model, "runs/mine/export")
    given = {
        "clips": np.zeros((2, 6, 40, 50, 3), np.uint8),
        "frames": np.zeros((2, 4, 32, 32, 3), np.float32),
    }
    downloads = ('weights="kinetics400"',)
    names, ran = pages.run_page("README.md", given, skip=downloads)
    blocks = [b for b in pages.blocks_of("README.md") if not any(t in b.code for t in downloads)]
    assert ran == len(blocks) >= 2
    assert names["probabilities"].shape == (2, 3)
