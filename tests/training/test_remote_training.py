"""A training whose videos come from a web server and whose directory is on an object store."""

import importlib.util
import os
import signal
import subprocess
import sys

import pytest
import tensorflow as tf

from tests.remote_servers import gcs_server, s3_server, web_server
from tests.training.tiny import write_config, write_videos

_MVIT = [sys.executable, "-c", "from mvit_tf.cli.main import console; console()"]
_EXPORT_AND_PREDICT = """
import sys
from mvit_tf.cli.logs import console_lines
from mvit_tf.cli.startup import run_program
from mvit_tf.export.predictor import open_predictor
from mvit_tf.training import trainer
from mvit_tf.files import local_copy
from mvit_tf.remote_path import as_path

run, video = sys.argv[1:]
with console_lines():
    trainer.run(mode="export", model_dir=run)
first, second = (open_predictor(path).predict_video(video) for path in (run, run + "/export"))
print("difference", abs(first - second).max())
for name in ("split.csv", "outcomes.jsonl", "evaluation.json", "train_log.csv"):
    print(name, len((as_path(run) / name).read_text().splitlines()))
print("left", sorted(path.name for path in as_path(run).iterdir()))
print("secrets", "hidden" in (as_path(run) / "outcomes.jsonl").read_text())
run_program(lambda: 0)
"""


def _server(kind, folder):
    if kind == "gs":
        pytest.importorskip("gcp_storage_emulator")
        pytest.importorskip("cryptography")
        return gcs_server("bucket", folder)
    pytest.importorskip("moto")
    if importlib.util.find_spec("tensorflow_io") is None or not tf.__version__.startswith("2.16."):
        pytest.skip("s3:// needs tensorflow-io on TensorFlow 2.16")
    return s3_server("bucket")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gs", "s3"])
def test_a_killed_training_goes_on_and_is_evaluated_exported_and_predicted_from(tmp_path, kind):
    pytest.importorskip("aiohttp")
    folder = write_videos(tmp_path / "videos", videos_per_class=2)
    videos = sorted(folder.rglob("*.mp4"))
    lines = ["path,label"]
    lines += [f"{path.relative_to(folder)}?token=hidden,{path.parent.name}" for path in videos]
    lines.append(f"none.mp4?token=hidden,{videos[0].parent.name}")
    run = f"{kind}://bucket/runs/mine"
    with _server(kind, tmp_path) as variables, web_server(folder) as web:
        # As URLs in full: in a list's relative names a question mark is part of the name.
        text = "\n".join(lines).replace("\n", f"\n{web.url}/")
        (folder / "list.csv").write_text(text)
        config = write_config(tmp_path / "config.yaml", f"{web.url}/list.csv")
        environment = {**os.environ, **variables, "TF_CPP_MIN_LOG_LEVEL": "3"}
        options = "train.epochs=3,train.batch_size=4,data.max_failure_share=0.5"
        command = ["train", f"--model_dir={run}", f"--config_file={config}"]
        command = [*_MVIT, *command, f"--params_override={options}", "--mode=train_and_eval"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as first:
            for line in first.stdout:
                if line.startswith("epoch       2/3: "):
                    first.send_signal(signal.SIGKILL)
        second = subprocess.run(command, capture_output=True, env=environment, text=True)
        assert second.returncode == 0, second.stderr
        assert f"resuming    after epoch 2 from {run}/checkpoints/step-" in second.stdout
        assert "evaluated" in second.stdout
        assert "hidden" not in second.stdout + second.stderr

        code = [sys.executable, "-c", _EXPORT_AND_PREDICT, run]
        third = subprocess.run(
            [*code, f"{web.url}/{videos[0].relative_to(folder)}"],
            capture_output=True,
            env=environment,
            text=True,
        )
    assert third.returncode == 0, third.stderr
    said = dict(line.partition(" ")[::2] for line in third.stdout.splitlines())
    assert said["exported"].strip().endswith(f" to {run}/export/1")
    assert float(said["difference"]) < 1e-4
    assert said["split.csv"] == str(len(lines)) and said["train_log.csv"] == "4"
    assert "checkpoints" in said["left"] and ".training" not in said["left"]
    assert said["secrets"] == "False"
