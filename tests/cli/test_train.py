"""`mvit train`, `evaluate` and `export`: what they hand to the code that train.py runs."""

import signal
from pathlib import Path

import pytest

from mvit_tf import factory
from mvit_tf.cli.main import main
from mvit_tf.export import saved_model
from mvit_tf.training import trainer

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def runs(monkeypatch):
    """The arguments of every call of `trainer.run`, which does nothing here."""
    calls = []
    monkeypatch.setattr(trainer, "run", lambda **arguments: calls.append(arguments))
    before = signal.getsignal(signal.SIGTERM)
    yield calls
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("command", "mode"),
    [
        (["train"], "train"),
        (["train", "--mode=train_and_eval"], "train_and_eval"),
        (["evaluate"], "eval"),
        (["export"], "export"),
    ],
)
def test_the_flags_are_those_of_the_script(runs, command, mode):
    assert main([*command, "--model_dir=runs/a"]) == 0
    flags = ["--config_file", "finetune", "--params_override=train.epochs=3"]
    assert main([*command, "--model_dir", "runs/a", *flags]) == 0
    without, with_all = runs
    assert without == {
        "mode": mode,
        "model_dir": "runs/a",
        "config_file": None,
        "overrides": "",
    }
    assert with_all.pop("config_file").samefile(CONFIGS / "finetune.yaml")
    assert with_all == {"mode": mode, "model_dir": "runs/a", "overrides": "train.epochs=3"}


@pytest.mark.parametrize(("number", "status"), [("SIGTERM", 143), ("SIGUSR1", 138)])
def test_signals_of_schedulers_are_answered_like_ctrl_c(monkeypatch, runs, capsys, number, status):
    number = getattr(signal, number)
    monkeypatch.setattr(trainer, "run", lambda **_: signal.raise_signal(number))
    monkeypatch.setattr("sys.argv", ["/bin/mvit", "train", "--model_dir=my runs"])
    assert main(["train", "--model_dir=my runs"]) == status
    said = capsys.readouterr().err
    assert said == "\ninterrupted; the same command resumes: mvit train '--model_dir=my runs'\n"


def test_a_published_model_is_exported(monkeypatch, tmp_path, capsys):
    def create_model(name, *, weights):
        return (name, weights)

    monkeypatch.setattr(factory, "create_model", create_model)
    monkeypatch.setattr(
        saved_model, "export_model", lambda model, to: (model, f"{to}/1")[1], raising=False
    )
    flags = ["--model=mvit_b_16x4", "--weights=kinetics400", f"--output={tmp_path}"]
    assert main(["export", *flags]) == 0
    assert capsys.readouterr().out == f"exported    mvit_b_16x4 to {tmp_path}/1\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give --model_dir, or --model with --weights and --output"),
        (["--weights=x", "--model_dir=y"], "--weights goes with --model"),
        (
            ["--model=mvit_b_16x4", "--output=x"],
            "--weights is missing: --model=mvit_b_16x4 takes it",
        ),
        (["--model=mvit_b_16x4", "--weights=x"], "--output is missing: --model takes it"),
        (["--model=mvit_b_16x4", "--model_dir=x"], "--model_dir does not go with --model"),
    ],
)
def test_flags_of_export_that_do_not_go_together(flags, message, capsys):
    assert main(["export", *flags]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_an_unknown_experiment_is_one_line_and_status_2(capsys):
    assert main(["train", "--model_dir=x", "--config_file=finetun"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: there is no config 'finetun'")
    assert len(said.splitlines()) == 1
