"""The share of time that steps wait for input, beside what a stopwatch around the wait says."""

import queue
import threading
import time

import pytest
import tensorflow as tf

from mvit_tf.training.loop.input_clock import InputClock
from tests.training.two_devices import run_on_two_devices


def batches_every(seconds, number, buffered):
    """`number` scalars that take so long each, made ahead or only when asked for."""

    def slowly(index):
        time.sleep(seconds)
        return index

    dataset = tf.data.Dataset.range(number)
    dataset = dataset.map(lambda index: tf.numpy_function(slowly, [index], tf.int64))
    return dataset.prefetch(2) if buffered else dataset


def steps(clock, take, number, step):
    """Runs steps of so many seconds; returns the clock's share of waiting and a stopwatch's."""
    clock.restart()
    waited = 0.0
    for index in range(number):
        if index == 1:  # the first finds no buffer filled
            before, begun, waited = clock.waited(), time.monotonic(), 0.0
        clock.step_begins()
        asked = time.monotonic()
        assert int(take()) == index
        waited += time.monotonic() - asked
        time.sleep(step)
    elapsed = time.monotonic() - begun
    return (clock.waited() - before) / elapsed, waited / elapsed


@pytest.mark.parametrize(
    ("source", "step", "buffered", "least", "most"),
    [
        (0.06, 0.04, False, 0.5, 0.8),  # one after the other: 60 of 100 ms
        (0.08, 0.04, True, 0.3, 0.8),  # side by side: 40 of 80 ms
        (0.01, 0.06, True, 0.0, 0.2),  # ready before it is asked for
    ],
)
def test_the_share_of_waiting(source, step, buffered, least, most):
    clock = InputClock()
    batches = clock.timed(batches_every(source, 16, buffered))
    assert batches.cardinality() == 16
    share, by_stopwatch = steps(clock, iter(batches).__next__, 16, step)
    assert share == pytest.approx(by_stopwatch, abs=0.1)
    assert least <= share <= most


@pytest.mark.parametrize(("source", "least", "most"), [(0.08, 0.3, 0.8), (0.01, 0.0, 0.2)])
def test_what_fetches_ahead_waits_in_vain_but_the_steps_do_not(source, least, most):
    """As several devices do it: the fetching thread waits for every batch, a step for some."""
    clock, fetched = InputClock(), queue.Queue(maxsize=2)
    batches = clock.timed(batches_every(source, 16, buffered=True))
    clock.restart()
    threading.Thread(target=lambda: [fetched.put(batch) for batch in batches], daemon=True).start()
    share, by_stopwatch = steps(clock, fetched.get, 16, 0.04)
    assert share == pytest.approx(by_stopwatch, abs=0.1)
    assert least <= share <= most


def test_a_batch_taken_beforehand_does_not_count():
    clock = InputClock()
    batches = clock.timed(batches_every(0.05, 3, buffered=False))
    next(iter(batches))  # as Keras does to build a model
    clock.restart()
    iterator, waited = iter(batches), 0.0
    for _ in range(2):
        clock.step_begins()
        asked = time.monotonic()
        next(iterator)
        waited += time.monotonic() - asked
    assert clock.waited() == pytest.approx(waited, abs=0.03)


@pytest.mark.slow
def test_fit_on_one_device_and_on_two():
    """A source and a step of which one takes ten times the other."""
    shares = run_on_two_devices(
        """
        import time
        import keras
        import tensorflow as tf
        from mvit_tf.training.distributed.distribution import make_strategy, strategy_scope
        from mvit_tf.training.loop.input_clock import InputClock
        from mvit_tf.training.loop.step_log import StepLog

        def pause(seconds):
            def sleep(x):
                time.sleep(seconds)
                return x
            return lambda x: tf.ensure_shape(tf.numpy_function(sleep, [x], x.dtype), x.shape)

        def share(strategy, source, step):
            with strategy_scope(strategy):
                frames = keras.Input((3,))
                model = keras.Sequential([frames, keras.layers.Dense(1), keras.layers.Lambda(
                    tf.grad_pass_through(pause(step)), output_shape=(1,))])
                model.compile("sgd", "mse", jit_compile=False)
            clock, slowly = InputClock(), pause(source)
            data = tf.data.Dataset.from_tensors((tf.ones([4, 3]), tf.ones([4, 1]))).repeat(10)
            data = data.map(lambda x, y: (slowly(x), y)).prefetch(2)
            log = StepLog(clips_per_step=4, steps_per_epoch=10, epochs=1, clock=clock)
            history = model.fit(clock.timed(data), steps_per_epoch=10, verbose=0, callbacks=[log])
            return [history.history[name][0] for name in ("waiting_share", "clips_per_second")]

        result = [share(strategy, *pauses) for strategy in (None, make_strategy(2))
                  for pauses in ((0.4, 0.04), (0.04, 0.4))]
        """
    )
    for waiting, working in (shares[:2], shares[2:]):
        assert waiting[0] > 0.5 and working[0] < 0.2
        assert 3 < waiting[1] <= 10.5 and 2 < working[1] <= 10.5
