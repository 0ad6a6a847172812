"""The videos of an experiment: which it trains on, and which it is scored on."""

from mvit_tf.data.lists.class_names import load_label_map
from mvit_tf.data.lists.data_checks import refuse_one_class
from mvit_tf.data.lists.saved_split import SavedSplit
from mvit_tf.data.lists.splits import split_validation
from mvit_tf.data.lists.unlabelled import load_unlabelled_videos
from mvit_tf.data.lists.video_list import VideoList, load_video_list
from mvit_tf.data.records.tfds import find_tfds_folder
from mvit_tf.errors import UserError
from mvit_tf.training.experiments.experiment import Experiment
from mvit_tf.urls import absolute


def training_videos(experiment: Experiment) -> VideoList:
    """All videos of `data.train`, those to be held out among them; of a pre-training, unlabelled.

    Raises:
        UserError: it is not set or has a mistake, or all its videos are of one class.
    """
    if experiment.pretraining.method is None:
        return labelled_videos(experiment)
    data = experiment.data
    source, _ = _sources(data)
    if source is None:
        raise UserError("data.train is not set; give a folder of videos or a list")
    return load_unlabelled_videos(
        absolute(source), split=data.train_split, **_list_options(data, by=data.group_by)
    )


def labelled_videos(experiment: Experiment) -> VideoList:
    """All videos of `data.train`, those to be held out among them.

    Raises:
        UserError: it is not set or has a mistake, or all its videos are of one class.
    """
    data = experiment.data
    train, _ = _sources(data)
    if train is None:
        raise UserError("data.train is not set; give a folder of class folders or a list")
    class_names = None if data.label_map is None else load_label_map(data.label_map)
    videos = _load_train(experiment, class_names)
    refuse_one_class(videos, train)
    return videos


def train_and_validation(
    experiment: Experiment, videos: VideoList, saved: SavedSplit | None
) -> tuple[VideoList, VideoList | None]:
    """The videos to train on, and those for validation if the experiment has any.

    Args:
        videos: as `labelled_videos` gives them.
        saved: what was held out of them before; `None` holds out anew.

    Raises:
        UserError: the validation list has a mistake, or what was held out has changed.
    """
    data = experiment.data
    _check_validation_split(data)
    if data.validation_fraction > 0:
        if saved is None:
            return split_validation(videos, data.validation_fraction, data.seed)
        saved.check_held_out()
        return saved.rest_of(videos), saved.validation
    if _sources(data)[1] is None:
        return videos, None
    validation = _load_validation(experiment, videos.class_names, group_by=data.group_by)
    if data.multi_label and not validation.videos_per_class().any():
        raise UserError(
            f"{_sources(data)[1]}: none of its {len(validation)} videos has a label, so there is "
            "no average precision to tell epochs by"
        )
    return videos, validation


def evaluation_videos(
    experiment: Experiment, class_names: tuple[str, ...], saved: SavedSplit | None
) -> VideoList:
    """The videos that a trained model is scored on.

    Args:
        class_names: of the trained model.
        saved: what its training held out; `None` where that was not written down, as in model
            directories of version 0.1, and is worked out again.

    Raises:
        UserError: there are none, their list has a mistake, or what was held out has changed.
    """
    data = experiment.data
    _check_validation_split(data)
    train, validation = _sources(data)
    if validation is not None:
        return _load_validation(experiment, class_names)
    if data.validation_fraction > 0 and saved is not None:
        saved.check_held_out()
        return saved.validation
    if data.validation_fraction > 0 and train is not None:
        videos = _load_train(experiment, class_names)
        return split_validation(videos, data.validation_fraction, data.seed)[1]
    raise UserError(
        "there is nothing to evaluate on: set data.validation, or train with "
        "data.validation_fraction"
    )


def _check_validation_split(data):
    if _sources(data)[1] is None and data.validation_split is not None:
        raise UserError(
            "data.validation_split is set, but not data.validation, the list that it is of"
        )


def _sources(data):
    """What to train on and what to validate on, each as `load_video_list` takes it, or None."""
    if data.tfds_name is None:
        return data.train, data.validation
    folder = find_tfds_folder(data.tfds_name, data.tfds_data_dir)
    by_split = None if data.validation_split is None else folder
    return folder, by_split if data.validation is None else data.validation


def _load_train(experiment, class_names):
    data = experiment.data
    train, _ = _sources(data)
    return _load(experiment, train, class_names, split=data.train_split, by=data.group_by)


def _load_validation(experiment, class_names, group_by=None):
    data = experiment.data
    source = _sources(data)[1]
    return _load(experiment, source, class_names, split=data.validation_split, by=group_by)


def _load(experiment, source, class_names, *, split, by):
    data = experiment.data
    return load_video_list(
        absolute(source),  # so are those in the split that the model directory keeps
        class_names=class_names,
        split=split,
        nested=data.nested,
        images=experiment.images,
        **_list_options(data, by=by),
    )


def _list_options(data, *, by):
    """Of `load_video_list`, what says how a list is to be read."""
    return {
        "root": None if data.root is None else absolute(data.root),
        "separator": data.separator,
        "group_by": by,
        "multi_label": data.multi_label,
    }
