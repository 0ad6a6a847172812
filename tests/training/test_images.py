"""A tiny image model: trained, evaluated, exported, and asked about files."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mvit_tf.analysis import plots
from mvit_tf.cli import check_data, main, show_batch
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.preprocessing import Preprocessing
from mvit_tf.data.transforms import evaluation_preprocess
from mvit_tf.errors import UserError
from mvit_tf.export.metadata import load_metadata
from mvit_tf.export.predictor import SavedModelPredictor, open_predictor
from mvit_tf.factory import create_model
from mvit_tf.models import MViT
from mvit_tf.training.evaluation.mistakes import Mistake, plot_mistakes
from mvit_tf.training.experiments.clips import training_clips, validation_views
from mvit_tf.training.experiments.experiment import flat_items, load_experiment, save_experiment
from mvit_tf.training.experiments.videos import labelled_videos
from mvit_tf.training.loop.summaries import Summaries, write_sample_clips
from mvit_tf.training.probing.features import video_features
from mvit_tf.training.trainer import run

CONFIG = """\
model:
  name: mvitv2_t
  input_shape: [32, 32, 3]
  overrides: {{depths: [1, 1], embed_dim: 16, drop_path_rate: 0.0}}
data:
  train: {root}/train
  validation: {root}/val
  short_side: 36
  interpolation: bicubic
  scale: [0.6, 1.0]
  flip: false
  mixup_alpha: 0.2
  evaluation_clips: 1
train: {{epochs: 5, batch_size: 8, learning_rate: 3e-3, warmup_epochs: 1, label_smoothing: 0.0}}
"""
COLOURS = {"blue": (40, 60, 200), "green": (50, 190, 60), "red": (200, 50, 40)}
SUFFIXES = ("JPEG", "png", "webp", "gif")


def write_images(root, *, per_class, seed):
    """Class folders of noisy images of one colour, of many sizes and formats."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            size = (*rng.integers(36, 60, 2), 3)
            pixels = np.clip(rng.normal(colour, 40, size), 0, 255).astype(np.uint8)
            suffix = SUFFIXES[number % len(SUFFIXES)]
            Image.fromarray(pixels).save(root / name / f"{number:02}.{suffix}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    write_images(root / "train", per_class=16, seed=0)
    write_images(root / "val", per_class=4, seed=1)
    # One of many that cannot be decoded is an outcome, no end.
    good = (root / "train/red/00.JPEG").read_bytes()
    (root / "train/red/00.JPEG").write_bytes(good[: len(good) // 2])
    config = root / "images.yaml"
    config.write_text(CONFIG.format(root=root))
    run(mode="train_and_eval", model_dir=root / "model", config_file=config)
    run(mode="export", model_dir=root / "model")
    return root


def test_it_learns_and_is_scored_on_every_image(trained):
    report = json.loads((trained / "model/evaluation.json").read_text())
    assert report["num_videos"] == report["num_decoded"] == 12
    assert report["top1_of_decoded"] == 1.0
    outcomes = (trained / "model/outcomes.jsonl").read_text()
    assert "00.JPEG" in outcomes and "truncated" in outcomes


def test_an_export_takes_images_and_answers_as_the_checkpoint(trained):
    exported = SavedModelPredictor(trained / "model/export")
    metadata = load_metadata(exported.directory)
    assert metadata.image and metadata.num_clips == 1
    signature = exported._loaded.signatures["serving_default"].structured_input_signature[1]
    assert signature["images"].shape.as_list() == [None, None, None, 3]
    paths = sorted((trained / "val").glob("*/*"))
    checkpoint = open_predictor(trained / "model")
    served, direct = (
        np.stack([one.probabilities for one in predictor.predict_videos(paths)])
        for predictor in (exported, checkpoint)
    )
    np.testing.assert_allclose(served, direct, atol=1e-5)
    assert [exported.metadata.class_names[i] for i in served.argmax(1)] == [
        path.parent.name for path in paths
    ]


def test_a_model_in_memory_is_asked_about_images_too(trained):
    model = create_model("mvitv2_t", num_classes=3, input_shape=(32, 32, 3))
    with pytest.raises(UserError, match="set model.preprocessing, model.class_names"):
        model.predict_videos([trained / "val/red/01.png"])
    model.preprocessing = Preprocessing(size=(32, 32), short_side=32)
    model.class_names = ("a", "b", "c")
    (prediction,) = model.predict_videos([trained / "val/red/01.png"])
    assert prediction.probabilities.shape == (3,)
    assert prediction.probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_predict_names_the_class_of_an_image_file(trained, capsys):
    image = trained / "val/red/01.png"
    assert main.main(["predict", "--top", "1", str(trained / "model"), str(image)]) in (None, 0)
    assert capsys.readouterr().out.split()[-1] == "red"


def test_a_batch_is_images_and_a_view_is_what_pillow_makes_of_one(trained):
    experiment = load_experiment(trained / "images.yaml")
    ledger = OutcomeLedger()
    videos = labelled_videos(experiment)
    clips, labels = next(iter(training_clips(experiment, videos, ledger=ledger, workers=None)))
    assert clips.shape == (8, 32, 32, 3) and labels.shape == (8, 3)
    options = {"batch_size": 4, "ledger": ledger, "workers": None, "num_clips": 1, "num_crops": 1}
    views, index = next(iter(validation_views(experiment, videos, **options)))
    assert views.shape == (4, 32, 32, 3)
    path = videos.paths[int(index[1])]
    with Image.open(path) as picture:
        width, height = picture.size
        short = min(width, height)
        size = (36 * width // short, 36 * height // short)
        pixels = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC))
    top, left = -(-(size[1] - 32) // 2), -(-(size[0] - 32) // 2)
    expected = pixels[top : top + 32, left : left + 32] / 255
    difference = views[1] * 0.225 + 0.45 - expected
    assert abs(difference).numpy().max() < 1.01 / 255  # Pillow's weights have 8 bits.
    assert abs(difference).numpy().mean() < 0.1 / 255


def test_bicubic_stays_within_the_range_of_pixels():
    preprocessing = load_experiment(None, "model.name=mvitv2_t,data.evaluation_clips=1,"
                                    "data.interpolation=bicubic").preprocessing()  # fmt: skip
    checks = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((16, 16)))[..., None].repeat(3, -1)
    view = evaluation_preprocess((checks[None] * 255).astype(np.uint8), preprocessing)
    pixels = view * 0.225 + 0.45
    assert tf.reduce_min(pixels) >= -1e-6 and tf.reduce_max(pixels) <= 1 + 1e-6


def test_check_data_reads_images(trained, capsys):
    with pytest.raises(UserError, match="48 videos, 1 left out"):
        arguments = ["check-data", str(trained / "train"), "--images", "--workers", "1"]
        check_data.run(main.build_parser().parse_args(arguments))
    assert "truncated" in capsys.readouterr().out


def test_the_features_of_a_mirror_image_are_those_of_the_image_turned(trained, tmp_path):
    """Left and right, of images that are dark on the left alone."""
    experiment = load_experiment(trained / "images.yaml", "data.short_side=32")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    pixels[:, :10] = 0
    for name, image in (("as_is", pixels), ("turned", pixels[:, ::-1])):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "set" / name / "x.png")
    videos = labelled_videos(load_experiment(None, f"model.name=mvitv2_t,data.evaluation_clips=1,"
                                             f"data.train='{tmp_path}/set'"))  # fmt: skip
    features = video_features(
        experiment,
        MViT(experiment.model_config(2)),
        videos,
        tmp_path / "features",
        mirrored=True,
        ledger=OutcomeLedger(),
        workers=None,
    )
    as_is, mirrored, turned, back = features.rows
    np.testing.assert_allclose(mirrored, turned, atol=1e-5)
    np.testing.assert_allclose(back, as_is, atol=1e-5)
    assert abs(as_is - turned).max() > 1e-3


def test_mistakes_and_sample_clips_of_images_are_clips_of_one_frame(trained, tmp_path, monkeypatch):
    experiment = load_experiment(trained / "images.yaml", "train.summary_clips=2")
    videos, shapes = labelled_videos(experiment), []

    def note(clips, *_):
        shapes.extend(clip.shape for clip in clips)

    monkeypatch.setattr(plots, "plot_clips", note)
    plot_mistakes([Mistake(20, 1.0, "")], experiment, videos, None, tmp_path / "x.png")
    summaries = Summaries(tmp_path)
    monkeypatch.setattr(summaries, "clips", lambda step, clips, names: shapes.append(clips.shape))
    batches = training_clips(experiment, videos, ledger=OutcomeLedger(), workers=None)
    write_sample_clips(summaries, experiment, batches, videos.class_names)
    assert shapes == [(1, 32, 32, 3), (2, 1, 32, 32, 3)]


def test_show_batch_draws_images(trained, tmp_path, capsys):
    arguments = ["show-batch", str(trained / "images.yaml"), "--output", str(tmp_path / "b.png")]
    show_batch.run(main.build_parser().parse_args(arguments))
    assert "8 of 8 images" in capsys.readouterr().out
    with Image.open(tmp_path / "b.png") as picture:
        assert picture.height > picture.width / 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.evaluation_clips=5", "data.evaluation_clips=5 must be 1, as model.name=mvitv2_t"),
        ("data.shuffle_frames=true", "data.shuffle_frames=True is for videos"),
        ("data.service='localhost:1'", "data.service=localhost:1 is for videos"),
        ("model.input_shape=[33,32,3]", "H = 33 must be a multiple of 4"),
    ],
)
def test_what_images_have_no_use_for_is_refused(trained, override, message):
    with pytest.raises(UserError, match=message) as refusal:
        load_experiment(trained / "images.yaml", override)
    assert "\n" not in str(refusal.value)


def test_folders_of_the_other_kind_say_what_was_looked_for(trained):
    (trained / "stills/red").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(trained / "stills/red/x.png")
    with pytest.raises(UserError, match="no videos in this class folder .looked for .mp4"):
        labelled_videos(load_experiment(None, f"data.train={trained}/stills"))
    (trained / "none/a").mkdir(parents=True)
    (trained / "none/a/x.mp4").touch()
    with pytest.raises(UserError, match="no images in this class folder .looked for .jpg"):
        labelled_videos(load_experiment(trained / "images.yaml", f"data.train={trained}/none"))


def test_an_image_experiment_is_saved_and_read_again(trained, tmp_path):
    experiment = load_experiment(trained / "images.yaml")
    save_experiment(experiment, tmp_path / "experiment.yaml")
    read = load_experiment(tmp_path / "experiment.yaml")
    assert flat_items(read) == flat_items(experiment)
    assert experiment.model_config(3).input_shape == (32, 32, 3)
    assert experiment.clip_shape == (1, 32, 32)
