"""What is refused over several replicas, and that what is refused does fail in Keras."""

import types

import pytest
import tensorflow as tf

from mvit_tf.errors import UserError
from mvit_tf.training.distributed.distribution import (
    check_replica_options,
    make_strategy,
    num_replicas,
)
from tests.training.two_devices import run_on_two_devices
from tests.training.two_workers import free_ports, tf_config

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


def test_the_strategy_is_the_one_that_is_named(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert make_strategy(None, "one_device") is None
    for options, message in (
        ({"num_devices": 2, "name": "one_device"}, "train.devices=2 .* exclude each other"),
        ({"name": "multi_worker_mirrored"}, "needs a TF_CONFIG that names two workers or more"),
        ({"tpu": "mine"}, "train.tpu=mine needs train.distribution_strategy=tpu"),
        ({"name": "tpu", "num_devices": 2}, "train.devices=2 has no meaning"),
    ):
        with pytest.raises(UserError, match=message):
            make_strategy(**options)
    monkeypatch.setenv("TF_CONFIG", tf_config(free_ports(2), 1))
    for name in ("one_device", "mirrored", "tpu"):
        with pytest.raises(UserError, match=f"={name} trains on one .* names 2 workers; unset it"):
            make_strategy(None, name)
    with pytest.raises(UserError, match="worker 0 .*; start the same command"):
        make_strategy(None, start_timeout=0.01)
    with pytest.raises(UserError, match="this machine has 0 GPUs; over several machines"):
        make_strategy(2)


def test_tpu_by_stand_ins(monkeypatch):
    """No TPU is at hand: that the steps are taken in their order, and what is refused."""
    steps, hosts = [], 1

    class Strategy:
        def __init__(self, resolver):
            self.extended = types.SimpleNamespace(num_hosts=hosts)

    def resolver(tpu):
        steps.append(tpu)
        if tpu == "none":
            raise ValueError("not\nfound")

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", resolver)
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", lambda _: steps.append(1))
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", lambda _: steps.append(2))
    monkeypatch.setattr(tf.distribute, "TPUStrategy", Strategy)
    assert isinstance(make_strategy(None, "tpu"), Strategy)
    assert steps == ["local", 1, 2]
    with pytest.raises(UserError, match=r"there is no TPU 'none' \(not"):
        make_strategy(None, "tpu", tpu="none")
    hosts = 2
    with pytest.raises(UserError, match="2 hosts; videos are decoded on the machine that trains"):
        make_strategy(None, "tpu")


def test_the_guarded_traps_are_still_there():
    """Each guard may go on the day that Keras does here what it does on one device."""
    result = run_on_two_devices(
        """
        import keras
        import numpy as np
        from mvit_tf.training.distributed.distribution import (
            make_strategy, num_replicas, strategy_scope,
        )
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
