"""Searches for keys of an experiment with KerasTuner.

    pip install '.[tune]'
    python examples/keras_tuner_search.py finetune search --trials=20 \
        --params_override=data.train=my_videos,train.epochs=10

Each trial is a training with a model directory of its own, `search/trials/NUMBER`: its curves are
in `tensorboard --logdir=search/trials`. Started again, the search goes on. What it finds are keys
of the experiment, so nothing has to be carried over by hand: `search/best.yaml` is the experiment
with the best of them, for

    mvit train --config_file=search/best.yaml --model_dir=runs/best \
        --params_override=train.epochs=100

Few epochs and a part of the videos are enough to compare by; what then trains for long may want a
lower learning rate. The score of the best trial is that of the videos it was chosen by: a held-out
set of its own tells what the model is worth.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import keras
import keras_tuner

from mvit_tf.cli.configs import find_config
from mvit_tf.training import trainer
from mvit_tf.training.experiments.experiment import load_experiment, save_experiment
from mvit_tf.training.storage.model_directory import ModelDirectory


def space(hp: keras_tuner.HyperParameters) -> dict[str, float]:
    """The keys that are searched, and where: change this to your needs."""
    return {
        "train.learning_rate": hp.Float("train.learning_rate", 1e-5, 3e-3, sampling="log"),
        "train.weight_decay": hp.Float("train.weight_decay", 1e-3, 0.2, sampling="log"),
        "train.label_smoothing": hp.Choice("train.label_smoothing", [0.0, 0.1]),
        "model.overrides.drop_path_rate": hp.Choice("model.overrides.drop_path_rate", [0.0, 0.2]),
    }


class Search(keras_tuner.BayesianOptimization):
    """Trains an experiment with the keys of each trial; its best validation accuracy counts.

    Args:
        config_file: of the experiment.
        overrides: "key=value,key=value" of all trials.
        **options: of KerasTuner.
    """

    def __init__(self, config_file: Path, overrides: str, **options):
        self._config_file, self._overrides = config_file, overrides
        super().__init__(
            objective=keras_tuner.Objective("val_accuracy", "max"), project_name=".", **options
        )

    def run_trial(self, trial):
        keras.backend.clear_session()
        directory = Path(self.project_dir, "trials", trial.trial_id)
        trainer.run(
            mode="train",
            model_dir=directory,
            config_file=self._config_file,
            overrides=self.overrides_of(trial.hyperparameters),
        )
        with ModelDirectory(directory).checkpoints.best() as checkpoint:
            return {"val_accuracy": checkpoint.progress.best_accuracy}

    def overrides_of(self, hyperparameters: keras_tuner.HyperParameters) -> str:
        """Those of all trials, and the keys of one."""
        keys = [f"{key}={value}" for key, value in space(hyperparameters).items()]
        return ",".join(filter(None, [self._overrides, *keys]))


def main(arguments: Sequence[str] | None = None) -> Search:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", help="a YAML file, or the name of one of the package")
    parser.add_argument("output", help="folder of the trials and of best.yaml")
    parser.add_argument("--params_override", default="", help="as for `mvit train`")
    parser.add_argument("--trials", type=int, default=20)
    flags = parser.parse_args(arguments)

    config = find_config(flags.experiment)
    search = Search(
        config, flags.params_override, max_trials=flags.trials, directory=flags.output, seed=0
    )
    search.search()
    search.results_summary(num_trials=3)
    best = search.overrides_of(search.get_best_hyperparameters()[0])
    path = Path(flags.output, "best.yaml")
    save_experiment(load_experiment(config, best), path)
    print(f"{path}: {best}")
    return search


if __name__ == "__main__":
    main()
