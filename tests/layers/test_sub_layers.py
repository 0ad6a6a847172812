"""What a sub-layer's `call` does is what runs: every change to one takes effect."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mvit_tf import layers

GRID = (2, 8, 8)
LENGTH = 1 + 2 * 8 * 8
# Keys at a stride above their kernel, so that those between the windows are left out.
ARGUMENTS = {
    "attention_dim": 16,
    "output_dim": 32,
    "num_heads": 2,
    "grid": GRID,
    "pool_kernels": ((3, 3, 3),) * 3,
    "pool_strides": ((1, 2, 2), (1, 4, 4), (1, 4, 4)),
    "relative_table_lengths": (3, 7, 7),
    "residual_pooling": "patches",
}
SUB_LAYERS = (
    "norm1",
    "attn",
    "attn.qkv",
    "attn.pool_q",
    "attn.pool_q.conv",
    "attn.pool_q.norm",
    "attn.pool_k.conv",
    "attn.pool_k.norm",
    "attn.pool_v.conv",
    "attn.pool_v.norm",
    "attn.relative_positions",
    "attn.proj",
    "proj_attention",
    "pool_skip",
    "drop_path",
    "norm2",
    "mlp",
    "mlp.fc1",
    "mlp.fc2",
    "proj_mlp",
)


def tokens(channels=8):
    return np.random.default_rng(0).standard_normal((2, LENGTH, channels)).astype(np.float32)


def built_block(**changes):
    keras.utils.set_random_seed(0)
    block = layers.MultiscaleBlock(**{**ARGUMENTS, **changes})
    block.build((None, LENGTH, 8))
    rng = np.random.default_rng(1)
    for weight in block.trainable_weights:
        weight.assign_add(0.2 * rng.standard_normal(weight.shape))
    return block


def sub_layer(block, path):
    for name in path.split("."):
        block = getattr(block, name)
    return block


@pytest.mark.parametrize("training", [False, True])
def test_every_sub_layer_is_called(training, monkeypatch):
    block = built_block(drop_path_rate=0.1)
    called = set()

    def record(path, call):
        def recording(*arguments, **keywords):
            called.add(path)
            return call(*arguments, **keywords)

        return recording

    for path in SUB_LAYERS:
        layer = sub_layer(block, path)
        monkeypatch.setattr(layer, "call", record(path, layer.call))
    block(tokens(), training=training)
    assert called == set(SUB_LAYERS)


@pytest.mark.parametrize("path", ["norm1", "norm2", "attn.pool_q.norm", "attn.pool_k.norm"])
def test_epsilon_of_a_norm_takes_effect(path):
    block = built_block()
    before = np.asarray(block(tokens()))
    sub_layer(block, path).epsilon = 10.0
    assert np.abs(np.asarray(block(tokens())) - before).max() > 1e-4


@pytest.mark.parametrize("training", [False, True])
def test_other_layers_in_the_place_of_sub_layers_run(training):
    """As an ablation does it: put in before the block is built."""
    block = layers.MultiscaleBlock(**ARGUMENTS)
    block.norm1 = keras.layers.RMSNormalization(name="norm1")
    block.attn.qkv = keras.layers.Dense(48, name="qkv")
    block.mlp.fc2 = keras.layers.Dense(32, name="fc2")
    block(tokens())
    same = built_block()
    same(tokens())
    for path in (path for path in SUB_LAYERS if sub_layer(same, path).weights):
        if path not in ("norm1", "attn", "mlp"):
            sub_layer(same, path).set_weights(sub_layer(block, path).get_weights())
    outputs = np.asarray(block(tokens(), training=training))
    same.norm1.call = lambda inputs, **_: block.norm1(inputs)
    np.testing.assert_allclose(same(tokens(), training=training), outputs, atol=1e-5)


@pytest.mark.parametrize("path", ["attn.qkv", "attn.proj", "proj_attention", "mlp.fc1", "mlp.fc2"])
def test_lora_takes_effect_and_learns(path):
    block = built_block()
    before = np.asarray(block(tokens()))
    layer = sub_layer(block, path)
    layer.enable_lora(2)
    np.testing.assert_allclose(block(tokens()), before, atol=1e-6)
    rng = np.random.default_rng(2)
    for weight in (layer.lora_kernel_a, layer.lora_kernel_b):
        weight.assign(rng.standard_normal(weight.shape))
    assert np.abs(np.asarray(block(tokens())) - before).max() > 1e-3
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(block(tokens(), training=True) ** 2)
    weights = [layer.lora_kernel_a.value, layer.lora_kernel_b.value]
    assert all(np.abs(gradient).max() > 0 for gradient in tape.gradient(loss, weights))


@pytest.mark.parametrize("path", ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "proj_mlp"])
@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_a_quantised_layer_multiplies_what_it_is_given(path, mode):
    """Its result is that of the same weights, rounded, in a layer that is not quantised."""
    block, rounded = built_block(), built_block()
    layer, plain = sub_layer(block, path), sub_layer(rounded, path)
    layer.quantize(mode)
    eye = np.eye(plain.kernel.shape[0], dtype=np.float32)
    plain.kernel.assign(np.asarray(keras.layers.Dense.quantized_call(layer, eye)) - plain.bias)
    expected = np.asarray(rounded(tokens()))
    # int8 and int4 round the inputs too.
    assert np.abs(np.asarray(block(tokens())) - expected).max() < 0.02 * np.abs(expected).max()


def test_float8_keeps_the_statistics_of_what_it_is_given():
    """The largest inputs of a training step: of queries, keys and values, and behind the GELU."""
    block, mlp = built_block(), layers.MLP(hidden_dim=16, output_dim=8)
    mlp.build((None, LENGTH, 8))
    normed, hidden = block.norm1(tokens()), mlp.fc1(tokens())
    for layer, quantised, inputs in (
        (block, block.attn.qkv, normed),
        (mlp, mlp.fc2, keras.ops.gelu(hidden, approximate=False)),
    ):
        largest = np.abs(inputs).max()
        quantised.quantize("float8")
        frames = keras.Input((LENGTH, 8))
        model = keras.Model(frames, layer(frames))
        model.compile(keras.optimizers.SGD(0.0), loss=lambda _, outputs: outputs**2)
        model.fit(tokens(), np.zeros((2, 1)), batch_size=2, verbose=0)
        np.testing.assert_allclose(np.max(quantised.inputs_amax_history), largest, rtol=1e-5)


def test_calibration_sees_the_inputs_of_the_second_layer_behind_the_gelu():
    """GPTQ and AWQ record the first argument of `call` in inference."""
    mlp = layers.MLP(hidden_dim=16, output_dim=8)
    mlp(tokens())
    seen = []
    call = mlp.fc2.call
    mlp.fc2.call = lambda inputs, **keywords: seen.append(inputs) or call(inputs, **keywords)
    mlp(tokens())
    expected = keras.ops.gelu(mlp.fc1(tokens()), approximate=False)
    np.testing.assert_allclose(np.reshape(seen[0], expected.shape), expected, atol=1e-6)


def test_dilated_depthwise_convolution_is_refused():
    with pytest.raises(ValueError, match="dilation_rate must be 1"):
        layers.DepthwiseConv3D(kernel_size=(3, 3, 3), dilation_rate=2)
    assert layers.DepthwiseConv3D(kernel_size=(3, 3, 3), dilation_rate=(1, 1, 1))


def test_padding_of_two_sides():
    x = np.random.default_rng(0).standard_normal((1, 4, 6, 6, 4)).astype(np.float32)
    padded = layers.DepthwiseConv3D(kernel_size=(3, 3, 3), padding=((1, 0), (0, 2), (1, 1)))
    plain = layers.DepthwiseConv3D(kernel_size=(3, 3, 3))
    plain.build((1, 5, 8, 8, 4))
    padded.build(x.shape)
    plain.set_weights(padded.get_weights())
    wide = np.pad(x, ((0, 0), (1, 0), (0, 2), (1, 1), (0, 0)))
    np.testing.assert_allclose(padded(x), plain(wide), atol=1e-6)
    assert padded.compute_output_shape(x.shape) == padded(x).shape
    assert layers.DepthwiseConv3D.from_config(padded.get_config()).padding == padded.padding


def test_compiled_kernels_can_be_switched_off():
    def compiled_parts():
        block = built_block()

        @tf.function(autograph=False)
        def gradient(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(block(x, training=True))
            return tape.gradient(loss, x)

        graph = gradient.get_concrete_function(tf.TensorSpec((2, LENGTH, 8))).graph
        functions = graph.as_graph_def().library.function
        return sum("_XlaMustCompile" in f.attr and f.attr["_XlaMustCompile"].b for f in functions)

    assert compiled_parts() > 0
    try:
        layers.enable_compiled_kernels(False)
        assert compiled_parts() == 0
    finally:
        layers.enable_compiled_kernels(True)
