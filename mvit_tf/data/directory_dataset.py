"""Clips from a folder of videos in one call, in the manner of Keras' loaders."""

import itertools
import os
import weakref

import numpy as np
import tensorflow as tf
from absl import logging

from mvit_tf.data import transforms
from mvit_tf.data.lists.entries import is_video
from mvit_tf.data.lists.splits import split_validation
from mvit_tf.data.lists.video_list import VideoList, load_video_list
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import (
    TrainingClips,
    dataset_options,
    evaluation_views,
    require_one_decodable,
    runner,
)
from mvit_tf.data.preprocessing import Augmentation, Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.video.decode_workers import DecodeWorkers, available_processors
from mvit_tf.errors import UserError
from mvit_tf.files import one_line

LABEL_MODES = ("int", "categorical", "binary", None)
SUBSETS = ("training", "validation", "both")
_NAMED = 20  # failures that are warned of one by one


def video_dataset_from_directory(
    directory,
    labels="inferred",
    label_mode="int",
    class_names=None,
    *,
    batch_size=8,
    num_frames=16,
    sampling_rate=4.0,
    size=(224, 224),
    sampling=None,
    preprocessing=None,
    shuffle=True,
    seed=None,
    validation_split=None,
    subset=None,
    group_by=None,
    augment=False,
    workers=None,
    verbose=True,
):
    """Clips of the videos of a folder, one a video and epoch, as `keras.Model.fit` takes them.

    As `keras.utils.image_dataset_from_directory`, whose arguments mean the same here. Without
    `augment` a clip is the middle of its video, resized and cut at the centre, and a video that
    cannot be decoded is left out; with it, place, crop and mirroring are drawn anew in every
    epoch, and another video takes the place of such a one. Either way a warning names it, and
    `ledger` tells what became of every video.

    Args:
        directory: folder of class folders, or whatever else `load_video_list` reads. With other
            `labels`, a folder of videos at any depth.
        labels: "inferred" from the folders' names; None; or a list of integers, one a video, in
            the order of their sorted paths.
        label_mode: "int" (for a sparse categorical cross-entropy), "categorical" (zeros and ones;
            several ones where a list gives a video several labels), "binary" (0. or 1., of two
            classes), or None for clips alone.
        class_names: the classes in the order of their indices, of inferred labels; sorted by
            default.
        batch_size: clips in a batch; the last one may hold fewer.
        num_frames, sampling_rate: frames of a clip, and the step between them at 30 a second.
        size: (height, width) of the clips, or one number for both.
        sampling: ClipSampling in place of `num_frames` and `sampling_rate`; a model with published
            weights has it as `model.sampling`.
        preprocessing: Preprocessing in place of `size`, such as `model.preprocessing`.
        shuffle: whether each epoch has an order of its own; else the videos are sorted.
        seed: of shuffling, split and augmentation; drawn when None.
        validation_split: share of each class to hold out, between 0 and 1.
        subset: "training", "validation" or "both" of the split. The clips of the second of "both"
            are in order and not augmented.
        group_by: keeps videos of one source on one side of the split, see docs/data.md.
        augment: False, True for random crops and mirroring, or an `Augmentation` without mixing.
        workers: processes to decode in, so that no video can crash or stop this one; by default
            as many as processors, 0 for none.
        verbose: whether to print how many videos were found.

    Returns:
        tf.data.Dataset of (float32 (B, T, H, W, 3), labels), normalised clips; two of them, a
        tuple, of "both". Attributes: `class_names`, `file_paths`, `sampling`, `preprocessing`
        and `ledger`, an OutcomeLedger. ``with dataset.ledger.user_errors():`` around a loop makes
        one line of what stops it.

    Raises:
        UserError: a bad argument, nothing in the folder, or not one video that can be decoded.
    """
    _check_modes(labels, label_mode, class_names)
    _check_split(validation_split, subset, shuffle, seed)
    augmentation = _augmentation(augment)
    if preprocessing is None:
        size = (size, size) if isinstance(size, int) else tuple(size)
        preprocessing = Preprocessing(size=size, short_side=round(min(size) * 8 / 7))
    if sampling is None:
        sampling = ClipSampling(num_frames=num_frames, sampling_rate=float(sampling_rate))
    if not isinstance(batch_size, int) or batch_size < 1:
        raise UserError(f"batch_size must be an integer, at least 1, got {batch_size}")
    if seed is None:
        seed = int(np.random.randint(2**31))
    if seed < 0:
        raise UserError(f"the seed must be 0 or more, got {seed}")
    if labels is None:
        label_mode = None
    videos = _list_videos(directory, labels, class_names, group_by)
    _check_labels(videos, label_mode)
    if verbose:
        classes = "" if labels is None else f" belonging to {videos.num_classes} classes"
        print(f"Found {len(videos)} videos{classes}.")
    parts = _parts(videos, validation_split, subset, seed, verbose)

    def dataset(part, *, shuffle, augmentation):
        return _Loader(
            part,
            sampling=sampling,
            preprocessing=preprocessing,
            label_mode=label_mode,
            batch_size=batch_size,
            workers=workers,
            shuffle_seed=seed if shuffle else None,
        ).dataset(augmentation, seed, None if labels is None else videos.class_names)

    if subset == "both":
        training, validation = parts
        return (
            dataset(training, shuffle=shuffle, augmentation=augmentation),
            dataset(validation, shuffle=False, augmentation=None),
        )
    return dataset(parts, shuffle=shuffle, augmentation=augmentation)


def _check_modes(labels, label_mode, class_names):
    if label_mode not in LABEL_MODES:
        named = ", ".join(map(repr, LABEL_MODES))
        raise UserError(f"label_mode must be one of {named}, got {label_mode!r}")
    if isinstance(labels, str) and labels != "inferred":
        raise UserError(f'labels must be "inferred", None or a list of integers, got {labels!r}')
    if class_names is not None and not isinstance(labels, str):
        raise UserError('class_names go with labels="inferred" only')


def _check_split(validation_split, subset, shuffle, seed):
    if (validation_split is None) != (subset is None):
        raise UserError(
            "validation_split and subset go together: validation_split=0.2 with "
            f"subset={' or '.join(map(repr, SUBSETS))}; got {validation_split!r} and {subset!r}"
        )
    if subset is not None and subset not in SUBSETS:
        raise UserError(f"subset must be one of {', '.join(map(repr, SUBSETS))}, got {subset!r}")
    if subset in ("training", "validation") and shuffle and seed is None:
        raise UserError(
            f"subset={subset!r} needs a seed, the same for training and validation, so that no "
            'video is in both; or take subset="both"'
        )


def _augmentation(augment):
    if isinstance(augment, Augmentation):
        if augment.mixes:
            raise UserError(
                "mixup_alpha and cutmix_alpha mix whole batches, with labels between 0 and 1: "
                "map mvit_tf.data.augmentation.mixing.mix_batch over the dataset instead"
            )
        return augment
    if not isinstance(augment, bool):
        raise UserError(f"augment must be False, True or an Augmentation, got {augment!r}")
    return Augmentation() if augment else None


def _list_videos(directory, labels, class_names, group_by):
    if isinstance(labels, str):
        return load_video_list(directory, class_names=class_names, group_by=group_by)
    if not os.path.isdir(directory):
        raise UserError(f"{os.fspath(directory)}: no such folder")
    paths = sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(directory)
        for name in names
        if is_video(name) and not name.startswith(".")
    )
    if not paths:
        raise UserError(f"{os.fspath(directory)}: no videos in it")
    if labels is None:
        return VideoList(tuple(paths), (0,) * len(paths), ("",))
    if len(labels) != len(paths):
        raise UserError(
            f"{len(labels)} labels, but {os.fspath(directory)} holds {len(paths)} videos; give "
            "one for each, in the order of the sorted paths"
        )
    if not all(isinstance(label, int | np.integer) and label >= 0 for label in labels):
        raise UserError("labels must be integers from 0")
    labels = tuple(int(label) for label in labels)
    return VideoList(tuple(paths), labels, tuple(map(str, range(max(labels) + 1))))


def _check_labels(videos, label_mode):
    if label_mode == "binary" and videos.num_classes != 2:
        raise UserError(
            f'label_mode="binary" is for two classes, there are {videos.num_classes}; take "int" '
            'or "categorical"'
        )
    if videos.multi_label and label_mode not in ("categorical", None):
        raise UserError(
            f"label_mode={label_mode!r} holds one label a video, these have several; take "
            '"categorical"'
        )


def _parts(videos, validation_split, subset, seed, verbose):
    if subset is None:
        return videos
    training, validation = split_validation(videos, validation_split, seed)
    if verbose:
        print(f"Using {len(training)} videos for training, {len(validation)} for validation.")
    return {
        "training": training, "validation": validation, "both": (training, validation)
    }[subset]  # fmt: skip


class _Loader:
    """Turns a list of videos into the dataset of one side of a split."""

    def __init__(
        self, videos, *, sampling, preprocessing, label_mode, batch_size, workers, shuffle_seed
    ):
        self._videos = videos
        self._sampling = sampling
        self._preprocessing = preprocessing
        self._label_mode = label_mode
        self._batch_size = batch_size
        self._shuffle_seed = shuffle_seed
        count = available_processors() if workers is None else workers
        self._workers = DecodeWorkers(count) if count else None

    def dataset(self, augmentation, seed, class_names):
        """The dataset, with what a user asks of it as attributes."""
        if augmentation is None:
            ledger = _WarningLedger("left out")
            dataset = self._plain(ledger)
        else:
            ledger = _WarningLedger("replaced by another")
            dataset = self._augmented(augmentation, seed, ledger)
        dataset = dataset.prefetch(tf.data.AUTOTUNE)
        dataset.class_names = class_names and list(class_names)
        dataset.file_paths = list(self._videos.paths)
        dataset.sampling = self._sampling
        dataset.preprocessing = self._preprocessing
        dataset.ledger = ledger
        if self._workers is not None:
            # Whatever is built upon a dataset holds it, and so the workers.
            weakref.finalize(dataset, self._workers.close)
        return dataset

    def _plain(self, ledger):
        order = tf.data.Dataset.range(len(self._videos))
        if self._shuffle_seed is not None:
            order = order.shuffle(len(self._videos), self._shuffle_seed)
        views = evaluation_views(
            self._videos,
            sampling=self._sampling,
            preprocessing=self._preprocessing,
            num_clips=1,
            num_crops=1,
            batch_size=self._batch_size,
            ledger=ledger,
            workers=self._workers,
            order=order,
        )
        if self._label_mode is None:
            return views.map(lambda clips, _: clips)
        targets = tf.constant(self._targets(self._videos.label_matrix()))
        return views.map(lambda clips, index: (clips, tf.gather(targets, index)))

    def _augmented(self, augmentation, seed, ledger):
        run = runner(self._workers)
        require_one_decodable(self._videos, self._sampling, ledger, run, 0.0)
        count, epochs = len(self._videos), itertools.count()
        source = TrainingClips(
            self._videos,
            self._sampling,
            self._preprocessing,
            augmentation,
            per_epoch=count,
            repeats=1,
            balanced_sampling=False,
            seed=seed,
            ledger=ledger,
            run=run,
            tolerated_damage=0.0,
            shuffle=self._shuffle_seed is not None,
        )

        def next_epoch(_):
            # Each iteration over the dataset is an epoch of its own.
            epoch = tf.numpy_function(lambda: np.int64(next(epochs)), [], tf.int64)
            return tf.ensure_shape(epoch, [])

        def load(sample):
            clips, target, seeds = tf.numpy_function(
                source, [sample], [tf.float32, tf.float32, tf.int32], stateful=False
            )
            clips.set_shape([1, self._sampling.num_frames, *self._preprocessing.size, 3])
            target.set_shape([self._videos.num_classes])
            seeds.set_shape([1, 2])
            clip = transforms.augment(clips[0], self._preprocessing, augmentation, seeds[0])
            return clip, target

        samples = tf.data.Dataset.from_tensors(0).map(next_epoch)
        samples = samples.flat_map(
            lambda epoch: tf.data.Dataset.range(epoch * count, (epoch + 1) * count)
        )
        dataset = samples.map(load, tf.data.AUTOTUNE, deterministic=True)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
        dataset = dataset.batch(self._batch_size).with_options(dataset_options())
        if self._label_mode is None:
            return dataset.map(lambda clips, _: clips)
        return dataset.map(lambda clips, targets: (clips, self._targets(targets)))

    def _targets(self, targets):
        """Rows of zeros and ones in the form of `label_mode`; of an array or a tensor."""
        targets = tf.cast(targets, tf.float32)
        if self._label_mode == "categorical":
            return targets
        if self._label_mode == "binary":
            return targets[:, 1:]
        return tf.argmax(targets, axis=1, output_type=tf.int32)


class _WarningLedger(OutcomeLedger):
    """A ledger that also warns, of each failure once.

    Args:
        consequence: what happens to a video that fails.
    """

    def __init__(self, consequence):
        super().__init__()
        self._consequence = consequence

    def record(self, path, outcome="ok", detail="", *, damaged=0.0):
        is_new = super().record(path, outcome, detail, damaged=damaged)
        if is_new:
            number = len(self.failures)
            if number <= _NAMED:
                reason = f"{outcome}: {detail}" if detail else outcome
                logging.warning(one_line(f"{path} ({reason}) is {self._consequence}"))
            elif number == _NAMED + 1:
                logging.warning("more videos fail: dataset.ledger.failures names them all")
        return is_new
