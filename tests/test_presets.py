"""Presets: what comes back of a model, and what is refused of a folder."""

import json
import shutil

import keras
import numpy as np
import pytest

import mvit_tf
from mvit_tf.data.preprocessing import Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.errors import UserError
from mvit_tf.export.predictor import open_predictor
from tests.training.tiny import tiny_model, write_videos

NAMES = ("left", "right", "up")


def described(**options):
    model = tiny_model(**options)
    model.preprocessing = Preprocessing(size=(32, 32), short_side=36, mean=(0.4, 0.5, 0.6))
    model.sampling = ClipSampling(num_frames=4, sampling_rate=2.0)
    model.class_names = NAMES
    return model


@pytest.fixture(scope="module")
def model():
    return described()


@pytest.fixture
def preset(model, tmp_path):
    model.save_to_preset(tmp_path / "preset")
    return tmp_path / "preset"


@pytest.fixture(scope="module")
def clips():
    return np.random.default_rng(0).standard_normal((2, 4, 32, 32, 3)).astype(np.float32)


def test_the_model_comes_back_to_the_bit_with_what_it_knows(model, preset, clips):
    assert {path.name for path in preset.iterdir()} == {
        "config.json", "model.weights.h5", "task.json", "task.weights.h5", "video_converter.json",
        "metadata.json",
    }  # fmt: skip
    again = mvit_tf.MViT.from_preset(preset)
    np.testing.assert_array_equal(again(clips), model(clips))
    assert again.config == model.config and again.name == model.name
    assert (again.preprocessing, again.sampling) == (model.preprocessing, model.sampling)
    assert again.class_names == NAMES and not again.multi_label
    metadata = json.loads((preset / "metadata.json").read_text())
    assert metadata["tasks"] == ["VideoClassifier"]
    assert metadata["parameter_count"] == model.count_params()
    assert metadata["keras_version"] == keras.version()


def test_a_fresh_head_no_head_and_no_weights(model, preset, clips):
    fresh = mvit_tf.from_preset(preset, num_classes=5)
    assert fresh(clips).shape == (2, 5) and fresh.class_names is None
    np.testing.assert_array_equal(
        fresh.get_layer("block_01").get_weights()[0], model.get_layer("block_01").get_weights()[0]
    )
    # As many classes may be others.
    same = mvit_tf.from_preset(preset, num_classes=3)
    assert same.class_names is None and not np.array_equal(same(clips), model(clips))
    features = mvit_tf.from_preset(preset, num_classes=0)
    expected = keras.Model(model.input, model.get_layer("norm").output)(clips)
    np.testing.assert_allclose(features(clips), expected, rtol=0, atol=1e-5)
    random = mvit_tf.from_preset(preset, load_weights=False)
    assert random.class_names == NAMES and not np.array_equal(random(clips), model(clips))


def test_a_model_without_a_head_replaces_one_with(preset, clips):
    features = tiny_model(num_classes=0, seed=1)
    mvit_tf.save_to_preset(features, preset)
    assert not list(preset.glob("task*"))
    again = mvit_tf.from_preset(preset)
    np.testing.assert_array_equal(again(clips), features(clips))


def test_lora_is_merged_and_the_dtype_kept_or_changed(tmp_path, clips):
    model = described()
    for layer in model.get_layer("block_00").dense_layers:
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(keras.random.normal(layer.lora_kernel_b.shape))
    model.save_to_preset(tmp_path)
    again = mvit_tf.from_preset(tmp_path)
    np.testing.assert_allclose(again(clips), model(clips), rtol=0, atol=1e-5)
    half = mvit_tf.from_preset(tmp_path, dtype="mixed_bfloat16")
    half.save_to_preset(tmp_path / "half")
    kept = mvit_tf.from_preset(tmp_path / "half")
    assert kept.get_layer("block_00").compute_dtype == "bfloat16"
    np.testing.assert_array_equal(kept(clips), half(clips))


def test_keras_itself_loads_the_model_without_its_head(model, preset, clips):
    features = keras.saving.load_model(preset)
    assert isinstance(features, mvit_tf.MViT) and features.config.num_classes == 0
    expected = mvit_tf.from_preset(preset, num_classes=0)(clips)
    np.testing.assert_array_equal(features(clips), expected)


def test_keras_hub_loads_the_model_and_its_head(model, preset, clips):
    preset_utils = pytest.importorskip("keras_hub.src.utils.preset_utils")
    loader = preset_utils.get_preset_loader(str(preset))
    assert loader.check_backbone_class() is mvit_tf.MViT
    features = loader.load_backbone(mvit_tf.MViT, load_weights=True)
    expected = mvit_tf.from_preset(preset, num_classes=0)(clips)
    np.testing.assert_array_equal(features(clips), expected)
    whole = mvit_tf.from_preset(preset, load_weights=False)
    others = [layer for layer in whole.layers if layer.name != "head"]
    skipped = [inner for layer in others for inner in layer._flatten_layers()]
    keras.saving.load_weights(whole, preset / "task.weights.h5", objects_to_skip=skipped)
    np.testing.assert_array_equal(
        whole.get_layer("head").get_weights()[0], model.get_layer("head").get_weights()[0]
    )


def test_the_converter_is_the_preprocessing_of_evaluation(model, preset):
    values = json.loads((preset / "video_converter.json").read_text())
    convert = keras.saving.deserialize_keras_object(values)
    frames = np.random.default_rng(0).integers(0, 256, (2, 9, 40, 50, 3), np.uint8)
    from mvit_tf.data.transforms import evaluation_preprocess, temporal_subsample

    expected = evaluation_preprocess(temporal_subsample(frames, 4), model.preprocessing)
    np.testing.assert_array_equal(convert(frames), expected)
    raw = keras.Input((None, None, None, 3), dtype="uint8")
    end_to_end = keras.Model(raw, model(convert(raw)))
    assert convert(raw).shape == (None, 4, 32, 32, 3)
    np.testing.assert_allclose(
        end_to_end.predict(frames, verbose=0), model(expected), rtol=0, atol=1e-5
    )


def test_a_preset_predicts_videos(model, preset, tmp_path):
    write_videos(tmp_path / "videos", videos_per_class=1)
    video = tmp_path / "videos" / "up" / "up_0000.mp4"
    (prediction,) = open_predictor(preset).predict_videos([video])
    assert prediction.class_names == NAMES
    (expected,) = model.predict_videos([video])
    np.testing.assert_array_equal(prediction.probabilities, expected.probabilities)


def test_an_image_model(tmp_path):
    config = mvit_tf.get_config("mvit_b_16").replace(
        input_shape=(32, 32, 3), depths=(1, 1), embed_dim=16, num_classes=3
    )
    model = mvit_tf.MViT(config, preprocessing=Preprocessing(size=(32, 32), short_side=36))
    model.save_to_preset(tmp_path)
    again = mvit_tf.from_preset(tmp_path)
    values = json.loads((tmp_path / "image_converter.json").read_text())
    convert = keras.saving.deserialize_keras_object(values)
    images = convert(np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8))
    assert images.shape == (2, 32, 32, 3) and not (tmp_path / "video_converter.json").exists()
    np.testing.assert_array_equal(again(images), model(images))
    assert json.loads((tmp_path / "metadata.json").read_text())["tasks"] == ["ImageClassifier"]


def edited(preset, name, **changes):
    values = json.loads((preset / name).read_text())
    for path, value in changes.items():
        at = values
        *parents, last = path.split("__")
        for key in parents:
            at = at[key]
        at[last] = value
    (preset / name).write_text(json.dumps(values))


def refusal(preset, **options):
    with pytest.raises(UserError) as caught:
        mvit_tf.from_preset(preset, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_damaged_and_foreign_folders_are_refused_in_one_line(preset, tmp_path):
    assert "no such folder" in refusal(tmp_path / "none")
    assert "metadata.json is missing" in refusal(tmp_path)

    def copy(name):
        return shutil.copytree(preset, tmp_path / name)

    cut = copy("cut")
    data = (cut / "model.weights.h5").read_bytes()
    (cut / "model.weights.h5").write_bytes(data[: len(data) // 2])
    assert "model.weights.h5" in refusal(cut)
    flipped = copy("flipped")
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    (flipped / "model.weights.h5").write_bytes(damaged)
    assert "is damaged" in refusal(flipped)
    headless = copy("headless")
    (headless / "task.weights.h5").unlink()
    assert "task.weights.h5 does not exist" in refusal(headless)
    (headless / "task.json").unlink()
    assert "task.json is missing" in refusal(headless)
    half = copy("half")
    (half / "task.json").write_text("{")
    assert "task.json is damaged" in refusal(half)
    other = copy("other")
    edited(other, "task.json", registered_name="keras_hub>ViTBackbone")
    assert "describes a keras_hub>ViTBackbone, not an mvit_tf>MViT" in refusal(other)
    unknown = copy("unknown")
    edited(unknown, "task.json", config__remats=True)
    assert "unknown key 'remats', did you mean 'remat'?" in refusal(unknown)
    code = copy("code")
    edited(code, "task.json", config__dtype={"module": "os", "class_name": "system", "config": {}})
    assert "dtype must be one of Keras' policies" in refusal(code)
    huge = copy("huge")
    edited(huge, "task.json", config__config__embed_dim=96 * 1024)
    assert "parameters cannot be those of" in refusal(huge)
    deep = copy("deep")
    edited(deep, "task.json", config__config__depths=[100000])
    assert "at most 1000" in refusal(deep)
    odd = copy("odd")
    edited(odd, "task.json", config__dtype={"class_name": "DTypePolicy", "config": None})
    assert "dtype must be one of Keras' policies" in refusal(odd)
    edited(odd, "task.json", config__dtype="float32", config__sampling="x")
    assert "sampling is 'x', not a mapping" in refusal(odd)
    wrong = copy("wrong")
    edited(wrong, "task.json", config__config__embed_dim=24)
    assert "does not fit the model" in refusal(wrong)


def test_what_a_preset_cannot_hold(tmp_path):
    with pytest.raises(UserError, match="not a Sequential"):
        mvit_tf.save_to_preset(keras.Sequential([keras.layers.Dense(2)]), tmp_path)
    model = tiny_model()
    model.get_layer("head").quantize("int8")
    with pytest.raises(UserError, match="is quantised"):
        model.save_to_preset(tmp_path)
    assert not list(tmp_path.iterdir())
