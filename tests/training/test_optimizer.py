"""One device and two replicas take the same step; what may decay decays, and nothing else."""

import keras
import numpy as np
import pytest

from mvit_tf.training.optimizer import ReplicaAdamW
from tests.training.two_devices import run_on_two_devices


def test_decay_takes_matrices_and_leaves_vectors():
    matrix = keras.Variable(np.ones((2, 3), "float32"))
    vector = keras.Variable(np.ones(3, "float32"))
    scalar = keras.Variable(np.float32(1.0))
    optimizer = ReplicaAdamW(0.1, weight_decay=0.5)
    variables = [matrix, vector, scalar]
    optimizer.apply([keras.ops.zeros_like(v) for v in variables], variables)
    np.testing.assert_allclose(matrix.numpy(), 0.95, rtol=1e-6)
    np.testing.assert_array_equal(vector.numpy(), 1.0)
    np.testing.assert_array_equal(scalar.numpy(), 1.0)


def test_decay_is_left_out_again_after_a_reload(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile(ReplicaAdamW(0.1, weight_decay=0.5, global_clipnorm=2.0), loss="mse")
    model.fit(np.zeros((2, 2)), np.zeros((2, 3)), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    again.layers[0].bias.assign([1.0, 1.0, 1.0])
    optimizer = again.optimizer
    assert (type(optimizer), optimizer.global_clipnorm) == (ReplicaAdamW, 2.0)
    for slot in optimizer.variables[2:]:
        slot.assign(keras.ops.zeros_like(slot))
    optimizer.apply([keras.ops.zeros_like(v) for v in again.trainable_variables])
    np.testing.assert_array_equal(again.layers[0].bias.numpy(), 1.0)


def test_one_step_equals_the_formula_with_clipping():
    rng = np.random.default_rng(0)
    value, gradient = rng.normal(size=(2, 4, 3)).astype("float32") * 3
    norm = np.linalg.norm(gradient)
    assert norm > 1
    variable = keras.Variable(value)
    ReplicaAdamW(0.01, weight_decay=0.1, global_clipnorm=1.0).apply([gradient], [variable])
    clipped = gradient / norm
    # First step of Adam: both moments are unbiased to g and g^2.
    expected = value - 0.01 * 0.1 * value - 0.01 * clipped / (np.abs(clipped) + 1e-7)
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5)


def test_the_fused_steps_are_those_of_keras():
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape).astype(np.float32) for shape in ((4, 3), (3,))]
    gradients = [[rng.standard_normal(v.shape).astype(np.float32) for v in start] for _ in range(5)]
    ends = []
    for kind in (ReplicaAdamW, keras.optimizers.AdamW):
        schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
        optimizer = kind(schedule, weight_decay=0.3, beta_1=0.8)
        variables = [keras.Variable(value) for value in start]
        optimizer.exclude_from_weight_decay(var_list=variables[1:])
        for step in gradients:
            optimizer.apply(step, variables)
        ends.append([variable.numpy() for variable in variables])
    for ours, theirs in zip(*ends, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "method",
    [
        "backend.tensorflow.optimizer.TFOptimizer._all_reduce_sum_gradients",
        "optimizers.base_optimizer.BaseOptimizer._use_weight_decay",
        "optimizers.base_optimizer.BaseOptimizer._get_variable_index",
    ],
)
def test_a_keras_without_the_hooks_is_refused(monkeypatch, method):
    monkeypatch.delattr(f"keras.src.{method}")
    with pytest.raises(RuntimeError, match=f"{method.split('.')[-1]}; clipping after"):
        ReplicaAdamW(0.1)


def test_a_keras_whose_slots_have_other_names_is_refused_before_the_first_step(monkeypatch):
    def build(self, variables):
        keras.optimizers.Optimizer.build(self, variables)
        self._moments, self._velocities = self.add_optimizer_variables(variables, ["a", "b"])

    monkeypatch.setattr(keras.optimizers.Adam, "build", build)
    with pytest.raises(RuntimeError, match="_momentums; clipping after"):
        ReplicaAdamW(0.1).build([keras.Variable(np.ones(2))])


def test_a_keras_that_no_longer_calls_the_hook_is_noticed(monkeypatch):
    monkeypatch.setattr(ReplicaAdamW, "_backend_update_step", lambda self, *args: None)
    with pytest.raises(RuntimeError, match="was not clipped"):
        ReplicaAdamW(0.1).apply([keras.ops.ones((2,))], [keras.Variable(np.ones(2))])


@pytest.mark.parametrize(
    "option",
    ["clipnorm", "clipvalue", "amsgrad", "gradient_accumulation_steps", "ema_overwrite_frequency"],
)
def test_options_it_cannot_honour_are_refused(option):
    with pytest.raises(ValueError, match=f"{option}=.* is not supported"):
        ReplicaAdamW(0.1, **{option: True})


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan")])
def test_a_clip_norm_that_would_stop_every_step_is_refused(norm):
    with pytest.raises(ValueError, match=f"global_clipnorm={norm}: must be above 0"):
        ReplicaAdamW(0.1, global_clipnorm=norm)


def test_what_the_user_excludes_from_decay_stays_excluded():
    first, second = (keras.Variable(np.ones((2, 2), "float32")) for _ in range(2))
    optimizer = ReplicaAdamW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[first])
    optimizer.apply([keras.ops.zeros((2, 2))] * 2, [first, second])
    np.testing.assert_array_equal(first.numpy(), 1.0)
    np.testing.assert_allclose(second.numpy(), 0.95, rtol=1e-6)


def test_a_scaled_loss_is_clipped_at_its_own_size():
    gradient, ends = np.array([[3.0, 4.0]], "float32"), []
    for scale in (None, 64.0):
        variable = keras.Variable(np.zeros((1, 2), "float32"))
        optimizer = ReplicaAdamW(0.1, global_clipnorm=1.0, epsilon=1.0, loss_scale_factor=scale)
        optimizer.apply([gradient * (scale or 1)], [variable])
        ends.append(variable.numpy())
    np.testing.assert_array_equal(*ends)
    # The first step's moments are (1 - beta) times the clipped gradient and its square.
    clipped = gradient / 5
    expected = -0.1 * np.sqrt(0.001) * clipped / (np.sqrt(0.001) * clipped + 1)
    np.testing.assert_allclose(ends[0], expected, rtol=1e-4)


def test_the_average_of_the_weights_is_that_of_keras():
    ends = []
    for kind in (ReplicaAdamW, keras.optimizers.AdamW):
        variable = keras.Variable(np.ones((2, 2), "float32"))
        optimizer = kind(0.1, weight_decay=0.5, use_ema=True, ema_momentum=0.5)
        for _ in range(3):
            optimizer.apply([keras.ops.ones((2, 2))], [variable])
        optimizer.finalize_variable_values([variable])
        ends.append(variable.numpy())
    np.testing.assert_allclose(*ends, rtol=1e-5)


def test_two_replicas_take_the_step_of_one_device():
    """The trap: Keras' own AdamW clips on each replica, before the sum."""
    result = run_on_two_devices(
        """
        import keras
        import numpy as np
        from mvit_tf.training.distribution import make_strategy, strategy_scope
        from mvit_tf.training.optimizer import ReplicaAdamW

        def train(kind, strategy, steps):
            keras.utils.set_random_seed(1)
            with strategy_scope(strategy):
                model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
                optimizer = kind(0.01, weight_decay=0.1, global_clipnorm=1.0, epsilon=1e-2)
                model.compile(optimizer, loss="mse", jit_compile=False)
            rng = np.random.default_rng(0)
            x, y = rng.normal(size=(8 * steps, 5)) * 9, rng.normal(size=(8 * steps, 3)) * 9
            model.fit(x, y, batch_size=8, verbose=0, shuffle=False)
            return model

        def flat(arrays):
            return np.concatenate([np.asarray(array).ravel() for array in arrays])

        def gradient_norm(model):
            # After one step Adam's first moments are 0.1 times the gradient it was given.
            moments = [v for v in model.optimizer.variables if v.path.endswith("_momentum")]
            assert len(moments) == 2
            return float(np.linalg.norm(flat(v.value for v in moments))) * 10

        both = make_strategy(2)
        assert both.num_replicas_in_sync == 2
        result = {
            kind.__name__: {
                "weights": [flat(train(kind, s, 5).get_weights()).tolist() for s in (None, both)],
                "norms": [gradient_norm(train(kind, s, 1)) for s in (None, both)],
            }
            for kind in (ReplicaAdamW, keras.optimizers.AdamW)
        }
        """
    )
    one, two = np.array(result["ReplicaAdamW"]["weights"])
    np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)
    assert result["ReplicaAdamW"]["norms"] == pytest.approx([1.0, 1.0], rel=1e-5)

    one, two = np.array(result["AdamW"]["weights"])
    assert np.abs(two - one).max() > 1e-4, "Keras clips after the sum now: ReplicaAdamW may go"
    assert result["AdamW"]["norms"][0] == pytest.approx(1.0, rel=1e-5)
    assert result["AdamW"]["norms"][1] > 1.2
