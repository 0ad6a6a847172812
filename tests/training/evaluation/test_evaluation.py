"""Averaging over views, the scores, shuffled frames, and several devices."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.training.evaluation.evaluation import ViewPredictor, make_report, shuffle_frames
from tests.training.two_devices import run_on_two_devices


def mean_pixel_model(num_classes=3):
    """Logits of a clip: (0, 1, ..., K - 1) times its mean."""
    frames = keras.Input((4, 2, 2, 3))
    mean = keras.layers.GlobalAveragePooling3D("channels_last")(frames)
    head = keras.layers.Dense(num_classes, use_bias=False, name="head")
    model = keras.Model(frames, head(mean))
    head.kernel.assign(np.tile(np.arange(num_classes) / 3, (3, 1)))
    return model


def view_dataset(means, indices, batch_size):
    views = np.ones((len(means), 4, 2, 2, 3), "float32") * np.reshape(means, (-1, 1, 1, 1, 1))
    views = tf.data.Dataset.from_tensor_slices((views, np.array(indices, "int64")))
    return views.batch(batch_size)


def test_probabilities_are_averaged_by_video():
    means, indices = [0.0, 1.0, 2.0, -3.0, 5.0], [0, 0, 2, 2, 2]
    predictor = ViewPredictor(mean_pixel_model(), batch_size=2)
    averaged, counts = predictor.scores_by_video(view_dataset(means, indices, 2), 4)
    of_view = np.exp(np.outer(means, range(3)))
    of_view /= of_view.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(averaged[0], of_view[:2].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(averaged[2], of_view[2:].mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(averaged[[1, 3]], 0.0)
    np.testing.assert_array_equal(counts, [2, 0, 3, 0])


def test_a_short_last_batch_is_not_traced_again():
    traces = []

    class Counting(keras.layers.Layer):
        def call(self, inputs):
            traces.append(inputs.shape)
            return inputs

    frames = keras.Input((4, 2, 2, 3))
    x = keras.layers.GlobalAveragePooling3D("channels_last")(Counting()(frames))
    model = keras.Model(frames, keras.layers.Dense(2)(x))
    traces.clear()
    predictor = ViewPredictor(model, batch_size=4)
    predictor.scores_by_video(view_dataset(range(6), range(6), 4), 6)
    predictor.scores_by_video(view_dataset(range(3), range(3), 4), 3)
    assert traces == [(4, 4, 2, 2, 3)]


def six_class_videos():
    labels = (0, 1, 2, 3, 4, 5, 5)
    names = ("a", "b", "c", "d", "e", "f")
    return VideoList(tuple(f"{i}.mp4" for i in range(7)), labels, names)


def test_report_scores_decoded_and_all():
    probabilities = np.array(
        [
            [0.9, 0.1, 0.0, 0.0, 0.0, 0.0],  # right
            [0.5, 0.4, 0.1, 0.0, 0.0, 0.0],  # second
            [0.3, 0.2, 0.0, 0.2, 0.2, 0.1],  # last: not in the top 5
            [0.0, 0.0, 0.0, 1.0, 0.0, 0.0],  # right
            [0.0] * 6,  # not decoded
            [0.2, 0.2, 0.1, 0.1, 0.2, 0.2],  # a tie for the first place goes to the first
            [0.0, 0.0, 0.0, 0.0, 0.0, 1.0],  # right
        ]
    )
    num_views = np.array([1, 1, 1, 1, 0, 1, 1])
    failures = {"4.mp4": ("empty_file", "0 bytes")}
    report = make_report(probabilities, num_views, six_class_videos(), failures)
    assert (report.num_videos, report.num_decoded) == (7, 6)
    assert report.top1_of_decoded == pytest.approx(3 / 6)
    assert report.top1_of_all == pytest.approx(3 / 7)
    assert report.top5_of_decoded == pytest.approx(5 / 6)
    assert report.top5_of_all == pytest.approx(5 / 7)
    true_class = np.array([0.9, 0.4, np.finfo(np.float32).tiny, 1.0, 0.2, 1.0])
    assert report.loss == pytest.approx(-np.log(true_class).mean())
    assert report.missing == [{"path": "4.mp4", "reason": "empty_file: 0 bytes"}]
    assert report.per_class[4] == {"name": "e", "videos": 1, "decoded": 0, "accuracy": None}
    assert report.per_class[5] == {"name": "f", "videos": 2, "decoded": 2, "accuracy": 0.5}
    expected = np.zeros((6, 6), int)
    for true, predicted in ((0, 0), (1, 0), (2, 0), (3, 3), (5, 0), (5, 5)):
        expected[true, predicted] += 1
    np.testing.assert_array_equal(report.confusion_matrix, expected)


def test_report_has_no_top5_of_five_classes(tmp_path):
    videos = VideoList(("0.mp4",), (1,), ("a", "b", "c", "d", "e"))
    report = make_report(np.eye(5)[[1]], np.array([1]), videos, {})
    assert (report.top1_of_all, report.top5_of_all, report.top5_of_decoded) == (1.0, None, None)
    report.write(tmp_path / "evaluation.json", epoch=3)
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert (written["epoch"], written["top1_of_all"], written["missing"]) == (3, 1.0, [])


def test_shuffled_frames_are_the_same_frames_in_an_order_of_their_own():
    views = np.arange(6 * 16, dtype="float32").reshape(6, 16, 1, 1, 1) * np.ones((1, 1, 2, 2, 3))
    dataset = tf.data.Dataset.from_tensor_slices((views, np.arange(6))).batch(4)

    def orders(seed):
        batches = list(shuffle_frames(dataset, seed=seed).as_numpy_iterator())
        np.testing.assert_array_equal(np.concatenate([index for _, index in batches]), range(6))
        frames = np.concatenate([frames for frames, _ in batches])
        assert (frames == frames[:, :, :1, :1, :1]).all()
        return frames[:, :, 0, 0, 0] - views[:, :1, 0, 0, 0]

    first = orders(seed=1)
    np.testing.assert_array_equal(np.sort(first, axis=1), np.tile(np.arange(16), (6, 1)))
    assert len({tuple(order) for order in first}) == 6
    np.testing.assert_array_equal(first, orders(seed=1))
    assert (first != orders(seed=2)).any()


def test_the_order_of_shuffled_frames_does_not_depend_on_the_batch_size():
    videos = [0, 0, 0, 1, 3, 3, 3, 3, 7]  # three views, one, four, one
    views = np.arange(9 * 16, dtype="float32").reshape(9, 16, 1, 1, 1) * np.ones((1, 1, 1, 1, 3))

    def orders(first, batch_size):
        dataset = tf.data.Dataset.from_tensor_slices((views[first:], videos[first:]))
        shuffled = shuffle_frames(dataset.batch(batch_size), seed=1).unbatch()
        frames = np.stack([frames for frames, _ in shuffled.as_numpy_iterator()])
        return frames[:, :, 0, 0, 0] - views[first:, :1, 0, 0, 0]

    whole = orders(0, 9)
    assert len({tuple(order) for order in whole}) == 9
    for batch_size in (1, 2, 4, 5):
        np.testing.assert_array_equal(orders(0, batch_size), whole)
    # Nor on what came before: a video that can no longer be decoded leaves the others alone.
    np.testing.assert_array_equal(orders(3, 4), whole[3:])


def test_two_replicas_score_as_one_device_whatever_the_last_batch():
    """The trap: Keras' evaluate fails on a first batch that cannot be split evenly."""
    result = run_on_two_devices(
        """
        import numpy as np
        import tensorflow as tf
        from mvit_tf.training.distributed.distribution import make_strategy, strategy_scope
        from mvit_tf.training.evaluation.evaluation import ViewPredictor
        from tests.training.tiny import tiny_model

        def averaged(strategy, num_views):
            with strategy_scope(strategy):
                model = tiny_model()
            views = np.random.default_rng(0).normal(size=(num_views, 4, 32, 32, 3))
            indices = np.arange(num_views) // 2
            views = tf.data.Dataset.from_tensor_slices((views.astype("float32"), indices)).batch(4)
            predictor = ViewPredictor(model, batch_size=4, strategy=strategy)
            probabilities, counts = predictor.scores_by_video(views, (num_views + 1) // 2)
            return probabilities.tolist(), counts.tolist()

        both = make_strategy(2)
        result = [[averaged(strategy, n) for strategy in (None, both)] for n in (1, 3, 7)]
        """
    )
    for (one, one_counts), (two, two_counts) in result:
        np.testing.assert_allclose(two, one, rtol=1e-5)
        assert two_counts == one_counts


def test_the_maximum_over_views_of_a_sigmoid():
    means, indices = [0.0, 1.0, -3.0, 2.0], [0, 0, 0, 2]
    predictor = ViewPredictor(
        mean_pixel_model(), batch_size=2, multi_label=True, ensemble_method="max"
    )
    scores, counts = predictor.scores_by_video(view_dataset(means, indices, 2), 3)
    of_view = 1 / (1 + np.exp(-np.outer(means, range(3))))
    np.testing.assert_allclose(scores[0], of_view[:3].max(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scores[2], of_view[3], rtol=1e-6)
    assert counts.tolist() == [3, 0, 1] and not scores[1].any()
