"""The signatures of an export agree with evaluation, with prediction and with each other."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import evaluation_views
from mvit_tf.data.records.encoding import Encoding, encode_video, record_data
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.transforms import Preprocessing, evaluation_preprocess
from mvit_tf.data.video.decoding import open_video
from mvit_tf.errors import UserError
from mvit_tf.export.predictor import ModelPredictor, SavedModelPredictor
from mvit_tf.export.saved_model import export_saved_model
from mvit_tf.models import build_mvit, get_config
from mvit_tf.training.evaluation.evaluation import ViewPredictor
from tests.data.videos import write_video
from tests.export.tiny import CLASS_NAMES, PREPROCESSING, SAMPLING, tiny_model

SEGMENTS = ClipSampling(num_frames=4, rule="segments")
LOOP = ClipSampling(num_frames=4, sampling_rate=5, rule="stride", short_videos="loop")
BICUBIC = Preprocessing(size=(32, 32), short_side=33, interpolation="bicubic")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Of odd sizes, both ways up; one shorter than a clip."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    paths = []
    for name, (frames, height, width) in {
        "a": (31, 50, 78), "b": (13, 82, 42), "c": (5, 36, 36),
    }.items():  # fmt: skip
        picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        rolled = [np.roll(picture, 5 * step, axis=1) for step in range(frames)]
        paths.append(str(write_video(folder / f"{name}.mp4", rolled)))
    return VideoList(tuple(paths), (0, 1, 2), CLASS_NAMES)


def whole_video(path):
    """(frames (T, H, W, 3), frames a second)"""
    with open_video(path) as video:
        return video.frames_at_indices(np.arange(video.info.num_frames)), video.info.fps


def evaluated(model, videos, *, num_crops, sampling, preprocessing, num_clips, **options):
    """The probabilities that evaluation scores, by its own input pipeline."""
    views = evaluation_views(
        videos, sampling=sampling, preprocessing=preprocessing, num_clips=num_clips,
        num_crops=num_crops, batch_size=8, ledger=OutcomeLedger(),
    )  # fmt: skip
    options.pop("class_names")
    predictor = ViewPredictor(model, batch_size=8, **options)
    return predictor.scores_by_video(views, len(videos))[0]


@pytest.mark.parametrize(
    ("num_crops", "options", "dtype", "tolerance"),
    [
        (1, {"sampling": SAMPLING, "num_clips": 3}, None, 1e-5),
        (1, {"sampling": SEGMENTS, "num_clips": 1, "preprocessing": BICUBIC}, None, 1e-5),
        (3, {"sampling": LOOP, "num_clips": 2, "multi_label": True, "ensemble_method": "max"},
         None, 1e-5),
        # bfloat16 keeps 8 bits, and the graphs round at other places.
        (3, {"sampling": SAMPLING, "num_clips": 2}, "mixed_bfloat16", 0.03),
    ],
)  # fmt: skip
def test_evaluation_prediction_and_serving_agree(
    videos, tmp_path, num_crops, options, dtype, tolerance
):
    model = tiny_model(dtype)
    options = {"class_names": CLASS_NAMES, "preprocessing": PREPROCESSING, **options}
    expected = evaluated(model, videos, num_crops=num_crops, **options)
    assert np.ptp(expected, axis=0).min() > 0.01
    version = export_saved_model(
        model, tmp_path, views_in_graph=True, num_crops=num_crops, **options
    )

    def check(probabilities):
        np.testing.assert_allclose(probabilities, expected, rtol=0, atol=tolerance)

    exported = SavedModelPredictor(version)
    check([exported.predict_video(path) for path in videos.paths])
    if num_crops == 1:
        for name in ("preprocessing", "sampling", "class_names"):
            setattr(model, name, options[name])
        kept = ModelPredictor(model, num_clips=options["num_clips"])
        check([kept.predict_video(path) for path in videos.paths])

    serve = tf.saved_model.load(str(version)).signatures["serve_videos"]
    served = []
    for path in videos.paths:
        frames, fps = whole_video(path)
        answer = serve(frames=tf.constant(frames[None]), fps=tf.constant([fps], tf.float64))
        served.append(answer["probabilities"][0])
    check(served)
    # Rates of their own in one request.
    frames, fps = whole_video(videos.paths[0])
    both = serve(
        frames=tf.constant(np.stack([frames, frames])), fps=tf.constant([fps / 2, fps], tf.float64)
    )
    np.testing.assert_allclose(both["probabilities"][1], served[0], rtol=0, atol=tolerance)


def test_records_are_served_as_evaluation_reads_them(videos, tmp_path):
    """`serve_video_examples` takes the very records that `mvit prepare` writes."""
    model = tiny_model()
    options = {"sampling": SAMPLING, "num_clips": 2, "class_names": CLASS_NAMES,
               "preprocessing": PREPROCESSING}  # fmt: skip
    version = export_saved_model(model, tmp_path, views_in_graph=True, num_crops=3, **options)
    signatures = tf.saved_model.load(str(version)).signatures
    records, first_clips = [], []
    for path in videos.paths:
        facts, *parts = encode_video(path, None, Encoding(short_side=40))
        jpegs = [jpeg for part in parts for jpeg in part]
        records.append(record_data(facts, jpegs, Encoding(), {0: "wave"}, path))
        decoded = np.stack([np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs])
        first_clips.append((decoded, facts.fps))

    # All in one request, though their frames differ in number and size.
    answer = signatures["serve_video_examples"](examples=tf.constant(records))
    clip_answer = signatures["serve_examples"](examples=tf.constant(records))
    for number, (decoded, fps) in enumerate(first_clips):
        raw = signatures["serve_videos"](
            frames=tf.constant(decoded[None]), fps=tf.constant([fps], tf.float64)
        )
        np.testing.assert_allclose(
            answer["probabilities"][number], raw["probabilities"][0], rtol=0, atol=1e-5
        )
        raw = signatures["serving_default"](frames=tf.constant(decoded[None]))
        np.testing.assert_allclose(
            clip_answer["logits"][number], raw["logits"][0], rtol=0, atol=1e-5
        )


def test_features_are_what_the_head_reads_and_the_stages_means(tmp_path):
    model = tiny_model()
    version = export_saved_model(
        model, tmp_path, class_names=CLASS_NAMES, preprocessing=PREPROCESSING, sampling=SAMPLING,
        num_clips=2,
    )  # fmt: skip
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 40, 50, 3), np.uint8)
    features = tf.saved_model.load(str(version)).signatures["features"](frames=tf.constant(frames))
    inputs = evaluation_preprocess(frames, PREPROCESSING)
    maps = model.feature_maps(inputs)
    pooled = maps.pop("class_token")
    assert set(features) == {"pooled", *maps} and set(maps) == {"stage_1", "stage_2"}
    np.testing.assert_allclose(features["pooled"], pooled, rtol=0, atol=1e-5)
    head = model.get_layer("head")
    np.testing.assert_allclose(head(features["pooled"]), model(inputs), rtol=0, atol=1e-4)
    for name, stage in maps.items():
        means = np.mean(stage, axis=(1, 2, 3))
        np.testing.assert_allclose(features[name], means, rtol=0, atol=1e-5)


def test_images_are_served_from_examples_too(tmp_path):
    config = get_config("mvit_b_16").replace(
        input_shape=(32, 32, 3), depths=(1, 1), embed_dim=16, num_classes=len(CLASS_NAMES)
    )
    model = build_mvit(config)
    options = {"class_names": CLASS_NAMES, "preprocessing": PREPROCESSING,
               "sampling": ClipSampling(num_frames=1), "num_clips": 1}  # fmt: skip
    version = export_saved_model(model, tmp_path, **options)
    signatures = tf.saved_model.load(str(version)).signatures
    assert set(signatures) == {"serving_default", "serve_examples", "features"}
    examples, logits = [], []
    for size in ((41, 67), (90, 50)):
        picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        jpeg = tf.io.encode_jpeg(picture).numpy()
        example = tf.train.Example()
        example.features.feature["image/encoded"].bytes_list.value.append(jpeg)
        examples.append(example.SerializeToString())
        decoded = np.asarray(Image.open(io.BytesIO(jpeg)))
        logits.append(model(evaluation_preprocess(decoded[None], PREPROCESSING))[0])
    served = signatures["serve_examples"](examples=tf.constant(examples))
    np.testing.assert_allclose(served["logits"], logits, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="several views are of videos"):
        export_saved_model(model, tmp_path, views_in_graph=True, **options)


@pytest.mark.parametrize("dtype", [None, "mixed_bfloat16"])
def test_the_weights_are_stored_once_and_no_signature_needs_python_or_xla(tmp_path, dtype):
    model = tiny_model(dtype)
    version = export_saved_model(
        model, tmp_path, class_names=CLASS_NAMES, preprocessing=PREPROCESSING, sampling=SAMPLING,
        num_clips=2, views_in_graph=True, num_crops=3,
    )  # fmt: skip
    weights = sum(weight.numpy().nbytes for weight in model.weights)
    message = saved_model_pb2.SavedModel()
    message.ParseFromString((version / "saved_model.pb").read_bytes())
    library = message.meta_graphs[0].graph_def.library
    nodes = [node for function in library.function for node in function.node_def]
    assert {"PyFunc", "EagerPyFunc", "XlaLaunch"}.isdisjoint(node.op for node in nodes)
    for attributes in (*(function.attr for function in library.function), *(n.attr for n in nodes)):
        assert not attributes["_XlaMustCompile"].b
    constants = sum(node.attr["value"].tensor.ByteSize() for node in nodes if node.op == "Const")
    checkpoint = tf.train.load_checkpoint(str(version / "variables" / "variables"))
    types = checkpoint.get_variable_to_dtype_map()
    variables = sum(
        np.prod(shape, dtype=int) * types[name].size
        for name, shape in checkpoint.get_variable_to_shape_map().items()
        if types[name] != tf.string  # The names of all.
    )
    assert weights > 50_000
    if dtype is None:
        assert weights <= variables < 1.1 * weights and constants < 0.5 * weights
    else:
        assert weights <= constants < 1.5 * weights and variables < 0.1 * weights
