"""The steps are PyTorch's, one device and two replicas take the same, and 1-D weights stay."""

import keras
import numpy as np
import pytest

from mvit_tf.training.optimization.optimizer import ReplicaAdamW, ReplicaSGD
from tests.training.two_devices import run_on_two_devices


@pytest.mark.parametrize("kind", [ReplicaAdamW, ReplicaSGD])
def test_decay_takes_matrices_and_leaves_vectors(kind):
    matrix = keras.Variable(np.ones((2, 3), "float32"))
    vector = keras.Variable(np.ones(3, "float32"))
    scalar = keras.Variable(np.float32(1.0))
    optimizer = kind(0.1, weight_decay=0.5)
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
        # Keras corrects it otherwise.
        optimizer = kind(schedule, weight_decay=0.3, beta_1=0.8, epsilon=1e-12)
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
    # The first step's moments, corrected, are the clipped gradient and its square.
    clipped = gradient / 5
    np.testing.assert_allclose(ends[0], -0.1 * clipped / (clipped + 1), rtol=1e-4)


@pytest.mark.parametrize("kind", [ReplicaAdamW, ReplicaSGD])
def test_the_average_follows_the_weights_by_a_decay_that_warms_up(kind):
    variable = keras.Variable(np.ones((2, 2), "float32"))
    optimizer = kind(0.1, use_ema=True, ema_momentum=0.4)
    optimizer.build([variable])
    average, decays = variable.numpy(), []
    for earlier in range(8):
        optimizer.apply([keras.ops.ones((2, 2)) * (earlier - 2)], [variable])
        decays.append(min(0.4, (1 + earlier) / (10 + earlier)))
        average = decays[-1] * average + (1 - decays[-1]) * variable.numpy()
        np.testing.assert_allclose(optimizer.averages([variable])[0], average, rtol=1e-6)
    assert decays[0] == 0.1 and decays[-1] == 0.4
    before = variable.numpy()
    optimizer.finalize_variable_values([variable])
    np.testing.assert_array_equal(variable.numpy(), before)


def _variables(values):
    return [keras.Variable(value, name=name) for name, value in values.items()]


@pytest.mark.parametrize("kind", [ReplicaAdamW, ReplicaSGD])
def test_a_scale_is_that_of_the_learning_rate_alone(kind):
    rng = np.random.default_rng(0)
    start = {name: rng.standard_normal((3, 2)).astype(np.float32) for name in ("a", "b")}
    gradients = rng.standard_normal((5, 2, 3, 2)).astype(np.float32)

    def train(rate, **options):
        variables = _variables(start)
        optimizer = kind(rate, weight_decay=0.1, **options)
        for step in gradients:
            optimizer.apply(list(step), variables)
        return [variable.numpy() for variable in variables]

    scaled = train(0.1, learning_rate_scales={"b": 0.25})
    np.testing.assert_array_equal(scaled[0], train(0.1)[0])
    np.testing.assert_allclose(scaled[1], train(0.025)[1], rtol=1e-5)
    assert np.abs(scaled[1] - train(0.1)[1]).max() > 0.01


def test_scales_survive_a_reload_and_name_weights_that_there_are():
    optimizer = ReplicaSGD(0.1, momentum=0.9, learning_rate_scales={"b": 0.5})
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert (again.learning_rate_scales, again.momentum) == ({"b": 0.5}, 0.9)
    with pytest.raises(ValueError, match="learning_rate_scales names no variable by 'b'"):
        again.build(_variables({"a": np.ones(2)}))
    with pytest.raises(ValueError, match=r"learning_rate_scales\['a'\]=0: must be above 0"):
        ReplicaSGD(0.1, learning_rate_scales={"a": 0})


@pytest.mark.parametrize("clip", [None, 1.0])
def test_the_norm_is_that_before_clipping_and_tells_of_what_is_not_finite(clip):
    variables = _variables({"a": np.ones((1, 2)), "b": np.ones(1)})
    optimizer = ReplicaAdamW(0.1, global_clipnorm=clip)
    optimizer.apply([np.array([[3.0, 4.0]]), np.array([12.0])], variables)
    assert float(optimizer.gradient_norm) == 13.0
    optimizer.apply([np.array([[np.nan, 4.0]]), np.array([12.0])], variables)
    assert np.isnan(float(optimizer.gradient_norm))
    assert len(optimizer.variables) == 2 + 2 * 2, "it is no part of a checkpoint"


_RATES = [0.1 * (1 + step / 20) for step in range(50)]


def _torch_ends(make, start, gradients):
    """Weights after 50 steps, the second at a quarter of the rate, 1-D ones without decay."""
    import torch

    weights = [torch.nn.Parameter(torch.from_numpy(value.copy())) for value in start.values()]
    optimizer = make(
        [
            {"params": [weight], "weight_decay": 0.05 if weight.ndim > 1 else 0.0}
            for weight in weights
        ]
    )
    for rate, step in zip(_RATES, gradients, strict=True):
        for group, scale in zip(optimizer.param_groups, (1.0, 0.25, 1.0), strict=True):
            group["lr"] = rate * scale
        for weight, gradient in zip(weights, step, strict=True):
            weight.grad = torch.from_numpy(gradient.copy())
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    return [weight.detach().numpy() for weight in weights]


@pytest.mark.compare
@pytest.mark.parametrize(
    ("name", "kind", "options", "theirs"),
    [
        ("AdamW", ReplicaAdamW, {"epsilon": 1e-3}, {"eps": 1e-3}),
        (
            "SGD",
            ReplicaSGD,
            {"momentum": 0.9, "nesterov": True},
            {"momentum": 0.9, "nesterov": True},
        ),
        ("SGD", ReplicaSGD, {"momentum": 0.9}, {"momentum": 0.9}),
        ("SGD", ReplicaSGD, {}, {}),
    ],
)
def test_fifty_steps_are_those_of_pytorch(name, kind, options, theirs):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    shapes = {"a": (4, 3), "b": (2, 5), "c": (3,)}
    start = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
    # From norms that are clipped to such as are not.
    gradients = [
        [rng.standard_normal(s).astype(np.float32) / (1 + step / 5) for s in shapes.values()]
        for step in range(50)
    ]

    def make(groups):
        return getattr(torch.optim, name)(groups, lr=1.0, **theirs)

    expected = _torch_ends(make, start, gradients)
    variables = _variables(start)
    optimizer = kind(
        lambda: rates.pop(0),
        weight_decay=0.05,
        global_clipnorm=1.0,
        learning_rate_scales={"b": 0.25},
        **options,
    )
    rates = list(_RATES)
    for step in gradients:
        optimizer.apply(step, variables)
    assert not rates
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=2e-5, atol=2e-6)


def test_two_replicas_take_the_step_of_one_device():
    """The trap: Keras' own AdamW clips on each replica, before the sum."""
    result = run_on_two_devices(
        """
        import keras
        import numpy as np
        from mvit_tf.training.distributed.distribution import make_strategy, strategy_scope
        from mvit_tf.training.optimization.optimizer import ReplicaAdamW

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
