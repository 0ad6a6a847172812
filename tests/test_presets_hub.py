"""Presets pushed to and pulled from a stand-in of the hub, by its official client over HTTP."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mvit_tf
from tests.hub_server import running_hub
from tests.training.tiny import tiny_model

pytest.importorskip("huggingface_hub")
ROOT = Path(__file__).parents[1]

# Without TensorFlow: a file comes and goes as one.
CLIENT = """
import sys
from mvit_tf.errors import UserError
from mvit_tf.presets_hub import download_preset, upload_preset
try:
    print(globals()[sys.argv[1]](*sys.argv[2:]))
except UserError as error:
    print("REFUSED", error)
assert "tensorflow" not in sys.modules
"""


def run(code, hub, home, *arguments, token="hf_right"):
    environment = {**os.environ, **hub.environment(home, token)}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()


def ask(hub, home, *arguments, **options):
    return run(CLIENT, hub, home, *arguments, **options)[-1]


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preset")
    tiny_model().save_to_preset(folder)
    return folder


@pytest.fixture
def hub():
    with running_hub() as hub:
        yield hub


def test_a_preset_goes_to_the_hub_and_comes_back(hub, preset, tmp_path):
    assert ask(hub, tmp_path, "upload_preset", "hf://user/mine", preset) == "None"
    commit = dict(hub.repositories["user/mine"][-1])
    assert b'from_preset("hf://user/mine")' in commit.pop("README.md")
    assert commit == {path.name: path.read_bytes() for path in preset.iterdir()}
    # Large files by LFS, the others within the commit.
    assert len([path for method, path in hub.requests if path.startswith("/lfs/")]) == 2

    folder = Path(ask(hub, tmp_path, "download_preset", "hf://user/mine"))
    clips = np.random.default_rng(0).standard_normal((1, 4, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        mvit_tf.from_preset(folder)(clips), mvit_tf.from_preset(preset)(clips)
    )
    assert not (folder / "README.md").exists()
    before = len(hub.requests)
    assert ask(hub, tmp_path, "download_preset", "hf://user/mine@main") == str(folder)
    assert not [path for method, path in hub.requests[before:] if method == "GET" and ".h5" in path]


def test_a_push_replaces_the_preset_and_nothing_else(hub, preset, tmp_path):
    hub.repositories["user/mine"] = [{"README.md": b"mine", "notes.json": b"{}", "task.json": b""}]
    headless = shutil.copytree(preset, tmp_path / "headless")
    for path in headless.glob("task*"):
        path.unlink()
    ask(hub, tmp_path, "upload_preset", "hf://user/mine", headless)
    commit = hub.repositories["user/mine"][-1]
    names = {path.name for path in headless.iterdir()}
    assert set(commit) == {"README.md", "notes.json", *names}
    assert commit["README.md"] == b"mine" and len(hub.repositories["user/mine"]) == 2
    folder = Path(ask(hub, tmp_path, "download_preset", "hf://user/mine"))
    assert {path.name for path in folder.iterdir()} == names


def test_refusals_are_one_line(hub, preset, tmp_path):
    ask(hub, tmp_path, "upload_preset", "hf://user/mine", preset)

    def refused(*arguments, **options):
        (line,) = run(CLIENT, hub, tmp_path / "empty", *arguments, **options)
        assert line.startswith("REFUSED ")
        return line

    assert "knows no such repository" in refused("download_preset", "hf://user/none", token=None)
    assert "no such repository" in refused("download_preset", "hf://user/none")
    assert "no such revision" in refused("download_preset", "hf://user/mine@v9")
    assert "not this token" in refused("download_preset", "hf://user/mine", token="hf_wrong")
    assert "not this token" in refused("upload_preset", "hf://user/mine", preset, token="hf_wrong")
    assert '"hf://user/name", got' in refused("download_preset", "hf://mine")
    assert "metadata.json is missing" in refused("upload_preset", "hf://user/a", tmp_path)
    assert list(hub.repositories) == ["user/mine"]


def test_a_download_that_is_cut_is_refused_and_goes_on_later(hub, preset, tmp_path):
    ask(hub, tmp_path, "upload_preset", "hf://user/mine", preset)
    hub.broken.add("model.weights.h5")
    line = ask(hub, tmp_path, "download_preset", "hf://user/mine")
    assert line.startswith("REFUSED hf://user/mine: the hub cannot be reached, or broke off")
    hub.broken.clear()
    folder = Path(ask(hub, tmp_path, "download_preset", "hf://user/mine"))
    for name in ("model.weights.h5", "config.json"):
        assert (folder / name).read_bytes() == (preset / name).read_bytes()


def test_a_hub_that_is_not_there(tmp_path):
    with running_hub() as hub:
        pass
    line = ask(hub, tmp_path, "download_preset", "hf://user/mine")
    assert line.startswith("REFUSED hf://user/mine: the hub cannot be reached")


KERAS = """
import keras, numpy as np
import mvit_tf
from tests.training.tiny import tiny_model
clips = np.random.default_rng(0).standard_normal((1, 4, 32, 32, 3)).astype("float32")
model = tiny_model()
model.save("hf://user/keras")
again = keras.saving.load_model("hf://user/keras")
assert type(again) is mvit_tf.MViT
np.testing.assert_array_equal(again(clips), model(clips))
mvit_tf.save_to_preset(model, "preset")
mvit_tf.upload_preset("hf://user/preset", "preset")
np.testing.assert_array_equal(mvit_tf.MViT.from_preset("hf://user/preset")(clips), model(clips))
features = keras.saving.load_model("hf://user/preset")
np.testing.assert_array_equal(
    features(clips), mvit_tf.from_preset("preset", num_classes=0)(clips)
)
"""


@pytest.mark.slow
def test_keras_own_handles(hub, tmp_path):
    code = f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); os.chdir({str(tmp_path)!r})\n"
    run(code + KERAS, hub, tmp_path / "home")
    assert list(hub.repositories) == ["user/keras", "user/preset"]
