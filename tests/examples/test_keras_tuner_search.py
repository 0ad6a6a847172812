"""The search by KerasTuner on a tiny experiment, and what it leaves for training."""

import pytest

from mvit_tf.training.experiments.experiment import load_experiment
from tests.examples.test_examples import load_example
from tests.training.tiny import write_config, write_videos


@pytest.mark.slow
def test_a_search_goes_on_and_its_best_is_an_experiment(tmp_path):
    pytest.importorskip("keras_tuner")
    config = write_config(tmp_path / "tiny.yaml", write_videos(tmp_path / "v", videos_per_class=2))
    options = "train.epochs=1,train.warmup_epochs=0,data.validation_fraction=0.5"
    flags = [str(config), str(tmp_path / "search"), f"--params_override={options}"]
    main = load_example("keras_tuner_search").main
    main([*flags, "--trials=1"])
    search = main([*flags, "--trials=2"])

    trials = search.oracle.get_best_trials(5)
    assert [trial.score for trial in trials] == sorted((t.score for t in trials), reverse=True)
    folders = sorted((tmp_path / "search" / "trials").iterdir())
    assert len(trials) == len(folders) == 2
    best, experiments = load_experiment(tmp_path / "search" / "best.yaml"), {}
    for folder in folders:
        trained = load_experiment(folder / "experiment.yaml")
        experiments[folder.name] = trained
        assert 1e-5 <= trained.train.learning_rate <= 3e-3
    assert len({trained.train.learning_rate for trained in experiments.values()}) == 2
    of_best = experiments[trials[0].trial_id]
    assert best.train.as_dict() == of_best.train.as_dict()
    assert best.model.as_dict() == of_best.model.as_dict()
