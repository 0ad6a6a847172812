"""What is refused over several replicas, and that what is refused does fail in Keras."""

import pytest

from mvit_tf.errors import UserError
from mvit_tf.training.distribution import check_replica_options, make_strategy, num_replicas
from tests.training.two_devices import run_on_two_devices

GOOD = {"batch_size": 8, "jit_compile": False, "steps_per_execution": 1}


def test_one_device_needs_no_strategy_and_may_use_everything():
    assert make_strategy(1) is None
    assert num_replicas(None) == 1
    check_replica_options(1, batch_size=7, jit_compile=True, steps_per_execution=8)


@pytest.mark.parametrize(
    ("replicas", "options", "message"),
    [
        (2, {"batch_size": 7}, "batch_size=7 cannot be split evenly over 2 replicas; use 6 or 8"),
        (4, {"batch_size": 3}, "batch_size=3 cannot be split evenly over 4 replicas; use 4"),
        (2, {"jit_compile": True}, "train.jit_compile=true does not work on 2 replicas"),
        (2, {"steps_per_execution": 4}, "steps_per_execution=4 does not work on 2 replicas"),
    ],
)
def test_refusals_over_replicas(replicas, options, message):
    check_replica_options(replicas, **GOOD)
    with pytest.raises(UserError, match=message):
        check_replica_options(replicas, **{**GOOD, **options})


def test_the_guarded_traps_are_still_there():
    """Each guard may go on the day that Keras does here what it does on one device."""
    result = run_on_two_devices(
        """
        import keras
        import numpy as np
        from mvit_tf.training.distribution import make_strategy, num_replicas, strategy_scope
        from mvit_tf.errors import UserError

        both = make_strategy(2)
        assert num_replicas(both) == 2

        def fails(strategy, **options):
            with strategy_scope(strategy):
                model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
                model.compile("adam", loss="mse", **options)
            try:
                model.fit(np.ones((16, 3)), np.ones((16, 2)), batch_size=4, verbose=0)
            except Exception:
                return True
            return False

        cases = ({}, {"steps_per_execution": 2}, {"jit_compile": True})
        result = [[fails(strategy, **options) for strategy in (None, both)] for options in cases]
        try:
            make_strategy(3)
        except UserError as error:
            result.append(str(error))
        """
    )
    plain, several_steps, jit, too_late = result
    assert plain == [False, False]
    assert several_steps == [False, True]
    assert jit == [False, True]
    assert too_late == "train.devices=3: TensorFlow is already running on 2 CPU device(s)"
