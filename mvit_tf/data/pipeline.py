"""tf.data pipelines from a list of videos to batches of clips.

What an epoch holds is a pure function of (seed, epoch, position): the order of the videos, the
start of each clip, its crop and its flip. A run that goes on at epoch k therefore sees exactly
the batches that an uninterrupted run would have seen.
"""

import functools

import numpy as np
import tensorflow as tf

from mvit_tf.data import transforms
from mvit_tf.data.decoding import DecodeError, open_video
from mvit_tf.errors import UserError

# Outcomes on record after which a video is tried all the same: of a damaged one another clip may
# be whole, and whether to try it must not depend on the epochs that this run has seen.
_MAY_RECOVER = (None, "decode_error")

# Keys of the independent random streams of a seed.
_ORDER, _CROP, _START = 0, 1, 2


def steps_per_epoch(video_list, batch_size):
    """Batches in a training epoch; the incomplete last one is dropped.

    Raises:
        UserError: fewer videos than one batch needs.
    """
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    steps = len(video_list) // batch_size
    if not steps:
        raise UserError(
            f"{len(video_list)} videos are fewer than one batch of {batch_size}; "
            "add videos or take a smaller batch"
        )
    return steps


def train_dataset(
    video_list,
    *,
    sampling,
    preprocessing,
    augmentation,
    batch_size,
    epochs,
    start_epoch=0,
    seed,
    ledger,
    num_parallel=None,
):
    """Batches of random, augmented clips, epoch after epoch.

    A video that cannot be decoded is recorded in `ledger` and replaced by the next one of the
    epoch's order that can, so the number of steps never changes. It is not tried again, unless
    only a part of it is damaged. Run the loop over the dataset inside ``ledger.user_errors()``,
    and ``ledger.check(...)`` after each epoch.

    Args:
        video_list: VideoList.
        sampling: ClipSampling.
        preprocessing: Preprocessing.
        augmentation: Augmentation.
        batch_size: int, B, over all replicas.
        epochs: int. Index of the epoch at which the dataset ends, as in `keras.Model.fit`.
        start_epoch: int. The first epoch it holds.
        seed: int >= 0.
        ledger: OutcomeLedger.
        num_parallel: int. Videos decoded at the same time; by default tf.data decides.

    Returns:
        tf.data.Dataset of (float32 (B, T, H, W, 3), int64 (B,)), ``steps_per_epoch`` batches
        for each epoch from `start_epoch` to ``epochs - 1``.

    Raises:
        UserError: fewer videos than a batch, a bad seed, or no video that can be decoded.
    """
    if seed < 0:
        raise UserError(f"the seed must be 0 or more, not {seed}")
    per_epoch = steps_per_epoch(video_list, batch_size) * batch_size
    _require_one_decodable(video_list, sampling, ledger)
    source = _TrainingClips(video_list, sampling, per_epoch, seed, ledger)

    def load(sample):
        # Declared stateless, so that op determinism does not force one call at a time.
        frames, label, crop_seed = tf.numpy_function(
            source, [sample], [tf.uint8, tf.int64, tf.int32], stateful=False
        )
        frames.set_shape([sampling.num_frames, None, None, 3])
        label.set_shape([])
        crop_seed.set_shape([2])
        clip = transforms.training_preprocess(frames, preprocessing, augmentation, crop_seed)
        return clip, label

    samples = tf.data.Dataset.range(start_epoch * per_epoch, epochs * per_epoch)
    dataset = samples.map(load, _parallel(num_parallel), deterministic=True)
    dataset = dataset.batch(batch_size, drop_remainder=True)
    return dataset.with_options(_options()).prefetch(tf.data.AUTOTUNE)


def evaluation_views(
    video_list,
    *,
    sampling,
    preprocessing,
    num_clips,
    num_crops,
    batch_size,
    ledger,
    num_parallel=None,
):
    """Every view of every video, in the order of the list; nothing random.

    A video has ``num_clips * num_crops`` views, clip by clip and crop by crop. One crop is the
    centre of frames resized to `preprocessing.short_side`. Three crops are left, centre and
    right of frames resized to the crop's own size, as in SlowFast. A video that cannot be
    decoded is recorded in `ledger` and left out. The frames of all clips of a video are in
    memory at once.

    Args:
        video_list: VideoList.
        sampling: ClipSampling.
        preprocessing: Preprocessing.
        num_clips: int. Clips evenly spread over each video.
        num_crops: 1 or 3.
        batch_size: int, views in a batch; the last batch may hold fewer.
        ledger: OutcomeLedger.
        num_parallel: int. Videos decoded at the same time; by default tf.data decides.

    Returns:
        tf.data.Dataset of (float32 (b, T, H, W, 3), int64 (b,)): views, and of each the index
        of its video in `video_list`.

    Raises:
        UserError: a bad argument, or no video that can be decoded.
    """
    if num_crops not in (1, 3):
        raise UserError(f"num_crops must be 1 or 3, not {num_crops}")
    for name, value in (("num_clips", num_clips), ("batch_size", batch_size)):
        if value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")
    crops = ("center",)
    if num_crops == 3:
        crops = transforms.CROPS
        preprocessing = preprocessing.with_short_side(min(preprocessing.size))
    _require_one_decodable(video_list, sampling, ledger)

    def decode(index):
        path = video_list.paths[index]
        try:
            clips = decode_clips(path, sampling, num_clips)
        except DecodeError as error:
            ledger.record(path, error.outcome, error.detail)
            return np.zeros([0, sampling.num_frames, 1, 1, 3], np.uint8)
        ledger.record(path)
        return clips

    def load(index):
        clips = tf.numpy_function(decode, [index], tf.uint8, stateful=False)
        clips.set_shape([None, sampling.num_frames, None, None, 3])
        return clips, tf.fill([tf.shape(clips)[0]], index)

    def views(clip, index):
        stacked = tf.stack(
            [transforms.evaluation_preprocess(clip, preprocessing, crop) for crop in crops]
        )
        return stacked, tf.fill([num_crops], index)

    dataset = tf.data.Dataset.range(len(video_list))
    dataset = dataset.map(load, _parallel(num_parallel), deterministic=True)
    dataset = dataset.unbatch().map(views, _parallel(num_parallel), deterministic=True)
    dataset = dataset.unbatch().batch(batch_size)
    return dataset.with_options(_options()).prefetch(tf.data.AUTOTUNE)


def decode_clips(path, sampling, num_clips):
    """The evaluation clips of one video.

    Args:
        path: path of the file.
        sampling: ClipSampling.
        num_clips: int.

    Returns:
        uint8 array (num_clips, T, height, width, 3).

    Raises:
        DecodeError: the file does not give every frame of every clip.
    """
    with open_video(path) as video:
        info = video.info
        indices = sampling.evaluation_indices(info.num_frames, info.fps, num_clips)
        frames = video.frames_at_indices(indices.ravel())
    return frames.reshape(*indices.shape, *frames.shape[1:])


class _TrainingClips:
    """Sample number -> (frames, label, seed of crop and flip); safe to call from threads."""

    def __init__(self, video_list, sampling, per_epoch, seed, ledger):
        self._videos = video_list
        self._sampling = sampling
        self._per_epoch = per_epoch
        self._seed = seed
        self._ledger = ledger
        self._order = functools.lru_cache(maxsize=4)(self._epoch_order)

    def __call__(self, sample):
        epoch, position = divmod(int(sample), self._per_epoch)
        crop_seed = self._rng(_CROP, epoch, position).integers(0, 2**31, 2, dtype=np.int32)
        order = self._order(epoch)
        for video in np.roll(order, -position):
            path = self._videos.paths[video]
            if self._ledger.failure(path) not in _MAY_RECOVER:
                continue
            try:
                # A generator of the video's own: which failures are known already, and so
                # which videos are tried before this one, depends on threads and on resumes.
                frames = self._decode(path, self._rng(_START, epoch, position, int(video)))
            except DecodeError as error:
                self._ledger.record(path, error.outcome, error.detail)
                continue
            self._ledger.record(path)
            return frames, np.int64(self._videos.labels[video]), crop_seed
        raise self._ledger.nothing_decoded()

    def _decode(self, path, rng):
        with open_video(path) as video:
            info = video.info
            indices = self._sampling.training_indices(info.num_frames, info.fps, rng)
            return video.frames_at_indices(indices)

    def _epoch_order(self, epoch):
        return self._rng(_ORDER, epoch).permutation(len(self._videos))

    def _rng(self, *key):
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=key))


def _require_one_decodable(video_list, sampling, ledger):
    """Finds out before TensorFlow starts if not one video of the list can be decoded."""
    for path in video_list.paths:
        try:
            decode_clips(path, sampling, 1)
        except DecodeError as error:
            ledger.record(path, error.outcome, error.detail)
        else:
            return
    if not len(video_list):
        raise UserError("the list holds no videos")
    raise ledger.nothing_decoded()


def _parallel(num_parallel):
    return tf.data.AUTOTUNE if num_parallel is None else num_parallel


def _options():
    options = tf.data.Options()
    # Under a strategy, split batches by element: there are no input files to split by.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options
