"""The share of time that steps wait for input, at sources and steps of known speed."""

import time

import pytest
import tensorflow as tf

from mvit_tf.training.input_clock import InputClock
from tests.training.two_devices import run_on_two_devices


def batches_every(seconds, number, buffered):
    """`number` scalars that take so long each, made ahead or only when asked for."""

    def slowly(index):
        time.sleep(seconds)
        return index

    dataset = tf.data.Dataset.range(number)
    dataset = dataset.map(lambda index: tf.numpy_function(slowly, [index], tf.int64))
    return dataset.prefetch(2) if buffered else dataset


@pytest.mark.parametrize(
    ("source", "step", "buffered", "share"),
    [
        (0.06, 0.04, False, 0.6),  # one after the other: 60 of 100 ms
        (0.08, 0.04, True, 0.5),  # side by side: 40 of 80 ms
        (0.01, 0.06, True, 0.0),  # ready before it is asked for
    ],
)
def test_the_share_of_waiting(source, step, buffered, share):
    clock = InputClock()
    batches = clock.timed(batches_every(source, 16, buffered))
    assert batches.cardinality() == 16 or not buffered
    iterator, waited = iter(batches), []
    clock.restart()
    for number in range(16):
        if number == 1:  # the first finds no buffer filled
            begun, before = time.monotonic(), clock.waited()
        clock.step_begins()
        assert int(next(iterator)) == number
        time.sleep(step)
        waited.append(clock.waited())
    measured = (waited[-1] - before) / (time.monotonic() - begun)
    assert waited == sorted(waited)
    assert measured == pytest.approx(share, abs=0.07)


def test_a_batch_taken_beforehand_does_not_count():
    clock = InputClock()
    batches = clock.timed(batches_every(0.05, 3, buffered=False))
    next(iter(batches))  # as Keras does to build a model
    clock.restart()
    iterator = iter(batches)
    for _ in range(2):
        clock.step_begins()
        next(iterator)
    assert clock.waited() == pytest.approx(0.1, abs=0.03)


def test_batches_fetched_ahead_for_two_devices_cost_the_steps_less_than_they_take():
    """What fetches them ahead waits all the time; the steps a third of it."""
    shares = run_on_two_devices(
        """
        import time
        import keras
        import tensorflow as tf
        from mvit_tf.training.distribution import make_strategy, strategy_scope
        from mvit_tf.training.input_clock import InputClock
        from mvit_tf.training.step_log import StepLog

        def pause(seconds):
            def sleep(x):
                time.sleep(seconds)
                return x
            return lambda x: tf.ensure_shape(tf.numpy_function(sleep, [x], x.dtype), x.shape)

        def share(strategy, source):
            with strategy_scope(strategy):
                frames = keras.Input((3,))
                model = keras.Sequential([frames, keras.layers.Dense(1), keras.layers.Lambda(
                    tf.grad_pass_through(pause(0.06)), output_shape=(1,))])
                model.compile("sgd", "mse", jit_compile=False)
            clock = InputClock()
            data = tf.data.Dataset.from_tensors((tf.ones([4, 3]), tf.ones([4, 1]))).repeat(16)
            slowly = pause(source)
            data = data.map(lambda x, y: (slowly(x), y)).prefetch(2)
            log = StepLog(clips_per_step=4, steps_per_epoch=16, epochs=1, clock=clock)
            history = model.fit(clock.timed(data), steps_per_epoch=16, verbose=0, callbacks=[log])
            (share,), (rate,) = (
                history.history[name] for name in ("waiting_share", "clips_per_second"))
            return share, rate

        result = [share(s, t) for s in (None, make_strategy(2)) for t in (0.2, 0.01)]
        """
    )
    one, two = shares[:2], shares[2:]
    for (slow, slow_rate), (fast, fast_rate) in (one, two):
        assert fast < 0.05
        assert slow_rate == pytest.approx(4 / 0.2, rel=0.1)
        # What the step itself takes, the fast source tells: two replicas pause in turn.
        assert slow == pytest.approx(1 - slow_rate / fast_rate, abs=0.08)
        assert 0.2 < slow < 0.8
