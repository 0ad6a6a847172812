"""Groupings of views with probabilities that are known."""

import numpy as np
import pytest

from mvit_tf.data.lists.video_list import VideoList, load_video_list
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.errors import UserError
from mvit_tf.training.evaluation.evaluation import ViewPredictor, make_report
from mvit_tf.training.evaluation.saved_views import SavedViews, ViewCollector
from mvit_tf.training.experiments.clips import validation_views
from mvit_tf.training.experiments.experiment import load_experiment
from tests.training.tiny import tiny_model, write_config, write_videos


def views_of(probabilities, video, videos, *, clips, crops=1, ensemble_method="mean"):
    collect = ViewCollector(crops, len(videos.class_names))
    video, probabilities = np.array(video), np.array(probabilities)
    for start in range(0, len(video), 3):  # in batches that know nothing of videos
        collect(video[start : start + 3], probabilities[start : start + 3])
    return SavedViews.of_evaluation(
        collect.arrays(), videos, failures={}, partial={}, model="m", data="d", epoch=1,
        clips=clips, crops=crops, ensemble_method=ensemble_method,
    )  # fmt: skip


def two_class(shares):
    return [(share, 1 - share) for share in shares]


def test_clips_are_taken_evenly_spread():
    videos = VideoList(("a.mp4", "b.mp4"), (0, 1), ("x", "y"))
    shares = [0.1, 0.2, 0.3, 0.4, 0.5, 0.9, 0.8, 0.7, 0.6, 0.2]
    views = views_of(two_class(shares), [0] * 5 + [1] * 5, videos, clips=5)
    taken = {clips: views.clip[views.chosen(clips)][: clips or 1].tolist() for clips in range(1, 6)}
    assert taken == {1: [2], 2: [0, 4], 3: [0, 2, 4], 4: [0, 1, 3, 4], 5: [0, 1, 2, 3, 4]}
    report = views.report(clips=2)
    assert report.loss == pytest.approx(-np.log([0.3, 0.45]).mean())
    assert (report.top1_of_decoded, report.num_decoded) == (0.0, 2)
    # y of b: 0.8 against 0.9 by the maximum; x of a: 0.5 against 0.9.
    largest = views.report(clips=2, ensemble_method="max")
    assert largest.loss == pytest.approx(-np.log([0.5, 0.8]).mean())


def test_the_centre_of_three_crops():
    videos = VideoList(("a.mp4",), (0,), ("x", "y"))
    shares = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    views = views_of(two_class(shares), [0] * 6, videos, clips=2, crops=3)
    assert views.report(crops=1).loss == pytest.approx(-np.log(0.35))
    assert views.report(clips=1, crops=1).loss == pytest.approx(-np.log(0.2))
    with pytest.raises(UserError, match="crops=2: must be 1 or 3"):
        views.report(crops=2)


@pytest.mark.parametrize("ensemble_method", ["mean", "max"])
def test_groupings_score_as_an_evaluation_with_those_settings(tmp_path, ensemble_method):
    """Of a crop as large as the frame's short side: the centre one is then the same, of 1 or 3."""
    config = write_config(tmp_path / "tiny.yaml", write_videos(tmp_path / "v", videos_per_class=1))
    videos, model = load_video_list(tmp_path / "v"), tiny_model(num_classes=8)
    experiment = load_experiment(config, "data.short_side=32,data.decode_threads=2")
    predictor = ViewPredictor(model, batch_size=5, ensemble_method=ensemble_method)

    def evaluated(clips, crops):
        ledger, collect = OutcomeLedger(), ViewCollector(crops, len(videos.class_names))
        views = validation_views(
            experiment, videos, batch_size=5, ledger=ledger, workers=None,
            num_clips=clips, num_crops=crops,
        )  # fmt: skip
        scores, num_views = predictor.scores_by_video(views, 8, collect)
        saved = SavedViews.of_evaluation(
            collect.arrays(), videos, failures={}, partial={}, model="m", data="d", epoch=1,
            clips=clips, crops=crops, ensemble_method=ensemble_method,
        )  # fmt: skip
        return make_report(scores, num_views, videos, {}), saved

    direct, views = evaluated(3, 3)
    assert views.report() == direct
    assert list(zip(views.clip[9:15], views.crop[9:15], strict=True)) == [
        (clip, crop) for clip in (0, 1) for crop in (0, 1, 2)
    ]
    losses = {direct.loss}
    for clips, crops in ((3, 1), (2, 3), (2, 1), (1, 1)):
        direct, _ = evaluated(clips, crops)
        assert views.report(clips=clips, crops=crops).loss == pytest.approx(direct.loss, rel=1e-5)
        losses.add(direct.loss)
    assert len(losses) == 5


def test_segments_of_a_file_are_scored_together():
    segments = ((0.0, 1.0), (1.0, 2.0), (0.0, 1.0))
    videos = VideoList(("b.mp4", "b.mp4", "a.mp4"), (0, 0, 1), ("x", "y"), segments)
    views = views_of(two_class([0.2, 0.9, 0.3]), [0, 1, 2], videos, clips=1)
    assert views.report().top1_of_decoded == pytest.approx(2 / 3)
    together = views.report(by_file=True)
    assert (together.num_videos, together.top1_of_decoded) == (2, 1.0)
    assert together.loss == pytest.approx(-np.log([0.7, 0.55]).mean())
    videos = VideoList(("b.mp4", "b.mp4"), (0, 1), ("x", "y"), segments[:2])
    views = views_of(two_class([0.2, 0.9]), [0, 1], videos, clips=1)
    with pytest.raises(UserError, match="segments of b.mp4 are of several classes"):
        views.report(by_file=True)


def test_a_multi_label_set_and_names_come_back_from_the_file(tmp_path):
    names = ("a \u00e9\udc80.mp4", "https://h/b.mp4?token=hidden")
    videos = VideoList(names, ((0, 1), (1,)), ("x", "y"))
    views = views_of([(0.9, 0.8), (0.1, 0.7)], [0, 1], videos, clips=1, ensemble_method="max")
    views.save(tmp_path / "views.npz")
    loaded = SavedViews.load(tmp_path / "views.npz")
    assert loaded.names[0] == names[0] and "hidden" not in loaded.names[1]
    assert loaded.report() == views.report()
    assert loaded.report().mean_average_precision_of_decoded == 1.0
    assert loaded.about["ensemble_method"] == "max"
