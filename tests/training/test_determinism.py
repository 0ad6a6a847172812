"""train.deterministic: all that a training runs, augmentation included, has such a form."""

import pytest

from tests.training.tiny import write_config, write_videos
from tests.training.two_devices import run_on_two_devices


@pytest.mark.slow
def test_a_deterministic_training_repeats_to_the_last_bit(tmp_path):
    config = write_config(tmp_path / "tiny.yaml", write_videos(tmp_path / "videos"))
    # In a process of its own: it cannot be switched off again.
    result = run_on_two_devices(
        f"""
        from pathlib import Path
        import numpy as np
        from tensorflow.python.framework.config import is_op_determinism_enabled
        from mvit_tf.training import trainer
        from tests.training.tiny import arrays, newest_checkpoint

        def train(name):
            keys = (
                "train.deterministic=true,train.epochs=2,data.rand_augment=rand-m7-n4-mstd0.5-inc1,"
                "data.color_jitter=0.4,data.random_erasing=0.25,data.mixup_alpha=0.8,"
                "data.cutmix_alpha=1.0,train.ema_decay=0.9"
            )
            folder = f"{tmp_path}/{{name}}"
            trainer.run(mode="train", model_dir=folder, config_file="{config}", overrides=keys)
            return {{
                name: np.asarray(value).tobytes()
                for name, value in arrays(newest_checkpoint(Path(folder))).items()
            }}

        before = is_op_determinism_enabled()
        one, two = train("one"), train("two")
        result = [before, is_op_determinism_enabled(), one == two, len(one) > 100]
        """
    )
    assert result == [False, True, True, True]
