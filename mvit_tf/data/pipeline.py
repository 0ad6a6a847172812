"""tf.data pipelines from a list of videos to batches of clips.

What an epoch holds is a pure function of (seed, epoch, position): the order of the videos, the
start of each clip, its crop and its flip. A run that goes on at epoch k therefore sees exactly
the batches that an uninterrupted run would have seen.
"""

import functools

import numpy as np
import tensorflow as tf

from mvit_tf.data import transforms
from mvit_tf.data.augmentation.blur import import_gaussian
from mvit_tf.data.clips import evaluation_frames, gather_frames, training_frames
from mvit_tf.data.outcomes import OK, PADDED, PARTIAL
from mvit_tf.data.video.decode_workers import in_this_process
from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.errors import UserError

# Outcomes on record after which a video is tried all the same: of a damaged one another clip may
# be whole, and whether to try it must not depend on the epochs that this run has seen.
_MAY_RECOVER = (None, "decode_error")
# TensorFlow would put what is computed outside of its graphs on a GPU.
_ON_CPU = "CPU:0"

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
    workers=None,
    num_parallel=None,
    tolerated_damage=0.0,
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
        workers: DecodeWorkers to decode in; by default the threads of tf.data do it themselves.
        num_parallel: int. Videos decoded at the same time; by default tf.data decides.
        tolerated_damage: float in [0, 1). Share of a clip's frames that may be undecodable.

    Returns:
        tf.data.Dataset of (float32 (B, T, H, W, 3), int64 (B,)), ``steps_per_epoch`` batches
        for each epoch from `start_epoch` to ``epochs - 1``.

    Raises:
        UserError: fewer videos than a batch, a bad seed, no package for the blur, or no video
            that can be decoded.
    """
    if seed < 0:
        raise UserError(f"the seed must be 0 or more, not {seed}")
    if augmentation.blur:
        import_gaussian()  # Inside tf.data its absence would not be one line.
    per_epoch = steps_per_epoch(video_list, batch_size) * batch_size
    run = _runner(workers)
    _require_one_decodable(video_list, sampling, ledger, run, tolerated_damage)
    source = _TrainingClips(
        video_list,
        sampling,
        preprocessing,
        augmentation,
        per_epoch,
        seed,
        ledger,
        run,
        tolerated_damage,
    )

    def load(sample):
        # Declared stateless, so that op determinism does not force one call at a time.
        clip, label, clip_seed = tf.numpy_function(
            source, [sample], [tf.float32, tf.int64, tf.int32], stateful=False
        )
        clip.set_shape([sampling.num_frames, *preprocessing.size, 3])
        label.set_shape([])
        clip_seed.set_shape([2])
        return transforms.augment(clip, preprocessing, augmentation, clip_seed), label

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
    workers=None,
    num_parallel=None,
    tolerated_damage=0.0,
):
    """Every view of every video, in the order of the list; nothing random.

    A video has ``num_clips * num_crops`` views, clip by clip and crop by crop. One crop is the
    centre of frames resized to `preprocessing.short_side`. Three crops are left, centre and
    right of frames resized to the crop's own size, as in SlowFast. A video that cannot be
    decoded is recorded in `ledger` and left out.

    Args:
        video_list: VideoList.
        sampling: ClipSampling.
        preprocessing: Preprocessing.
        num_clips: int. Clips evenly spread over each video.
        num_crops: 1 or 3.
        batch_size: int, views in a batch; the last batch may hold fewer.
        ledger: OutcomeLedger.
        workers: DecodeWorkers to decode in; by default the threads of tf.data do it themselves.
        num_parallel: int. Videos decoded at the same time; by default tf.data decides.
        tolerated_damage: float in [0, 1). Share of a clip's frames that may be undecodable.

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
    run = _runner(workers)
    _require_one_decodable(video_list, sampling, ledger, run, tolerated_damage)
    clip_shape = (sampling.num_frames, *preprocessing.size, 3)

    def decode(index):
        """float32 (num_clips * num_crops, T, h, w, 3); no view of a video that cannot be decoded"""
        segment = video_list.segment(index)
        path = video_list.paths[index]
        items = run(evaluation_frames, path, sampling, num_clips, segment, tolerated_damage)
        try:
            frames, facts = gather_frames(items, shrink)
        except DecodeError as error:
            ledger.record(video_list.name(index), error.outcome, error.detail)
            return np.zeros([0, *clip_shape], np.float32)
        _record_decoded(ledger, video_list.name(index), facts)
        # Clip by clip and crop by crop; a whole copy more would be most of the memory.
        views = np.empty([num_clips, num_crops, *clip_shape], np.float32)
        for clip, picks in enumerate(facts.picks):
            for crop in range(num_crops):
                views[clip, crop] = frames[picks, crop]
        return views.reshape(-1, *clip_shape)

    def shrink(frames, _):
        with tf.device(_ON_CPU):
            cut = [transforms.evaluation_preprocess(frames, preprocessing, crop) for crop in crops]
            return np.stack([crop.numpy() for crop in cut], axis=1)

    def load(index):
        views = tf.numpy_function(decode, [index], tf.float32, stateful=False)
        views.set_shape([None, *clip_shape])
        return views, tf.fill([tf.shape(views)[0]], index)

    dataset = tf.data.Dataset.range(len(video_list))
    dataset = dataset.map(load, _parallel(num_parallel), deterministic=True)
    dataset = dataset.unbatch().batch(batch_size)
    return dataset.with_options(_options()).prefetch(tf.data.AUTOTUNE)


class _TrainingClips:
    """Sample number -> (clip, label, seed of its augmentation); safe to call from threads.

    A clip is cut and resized here, part by part, so that large frames are never all in memory.
    """

    def __init__(
        self,
        video_list,
        sampling,
        preprocessing,
        augmentation,
        per_epoch,
        seed,
        ledger,
        run,
        tolerated_damage,
    ):
        self._videos = video_list
        self._sampling = sampling
        self._preprocessing = preprocessing
        self._augmentation = augmentation
        self._per_epoch = per_epoch
        self._seed = seed
        self._ledger = ledger
        self._run = run
        self._tolerated_damage = tolerated_damage
        self._order = functools.lru_cache(maxsize=4)(self._epoch_order)

    def __call__(self, sample):
        epoch, position = divmod(int(sample), self._per_epoch)
        seed = np.random.default_rng(self._seed_of(_CROP, epoch, position)).integers(
            0, 2**31, 2, dtype=np.int32
        )
        order = self._order(epoch)
        failed = []
        for step in range(len(order)):
            video = int(order[(position + step) % len(order)])
            name = self._videos.name(video)
            outcome, detail = self._ledger.failure(name) or (None, "")
            if outcome in _MAY_RECOVER:
                try:
                    # A seed of the video's own: which failures are known already, and so which
                    # videos are tried before this one, depends on threads and on resumes.
                    start_seed = self._seed_of(_START, epoch, position, video)
                    clip, facts = self._decode(video, start_seed, seed)
                except DecodeError as error:
                    outcome, detail = error.outcome, error.detail
                    self._ledger.record(name, outcome, detail)
                    self._ledger.stop_after_many_in_a_row()
                else:
                    outcome = _record_decoded(self._ledger, name, facts)
                    self._ledger.record_clip(
                        epoch, position, name, outcome, failed, damaged=facts.damaged
                    )
                    return clip, np.int64(self._videos.labels[video]), seed
            failed.append((name, outcome, detail))
        raise self._ledger.nothing_decoded()

    def _decode(self, video, start_seed, seed):
        """(float32 (T, h, w, 3), ClipFrames)"""
        box = None

        def shrink(frames, facts):
            nonlocal box
            with tf.device(_ON_CPU):
                if box is None:
                    size = facts.height, facts.width
                    drawn = transforms.training_box(*size, self._augmentation, seed)
                    box = tuple(side.numpy() for side in drawn)
                return transforms.training_crop(frames, box, self._preprocessing).numpy()

        path, segment = self._videos.paths[video], self._videos.segment(video)
        items = self._run(
            training_frames, path, self._sampling, start_seed, segment, self._tolerated_damage
        )
        frames, facts = gather_frames(items, shrink)
        return frames[facts.picks[0]], facts

    def _epoch_order(self, epoch):
        return np.random.default_rng(self._seed_of(_ORDER, epoch)).permutation(len(self._videos))

    def _seed_of(self, *key):
        return np.random.SeedSequence(self._seed, spawn_key=key)


def _runner(workers):
    """Runs a decoding function in a worker or, without workers, in the calling thread."""
    return in_this_process if workers is None else workers.run


def _record_decoded(ledger, name, facts):
    """Notes and returns the outcome of a video with these ClipFrames."""
    if facts.damaged:
        detail = f"{facts.damaged:.1%} of the frames asked for are lost: {facts.damage}"
        ledger.record(name, PARTIAL, detail, damaged=facts.damaged)
        return PARTIAL
    outcome = PADDED if facts.padded else OK
    ledger.record(name, outcome)
    return outcome


def _require_one_decodable(video_list, sampling, ledger, run, tolerated_damage):
    """Finds out before TensorFlow starts if not one video of the list can be decoded."""
    for index, path in enumerate(video_list.paths):
        try:
            segment = video_list.segment(index)
            for _ in run(evaluation_frames, path, sampling, 1, segment, tolerated_damage):
                pass
        except DecodeError as error:
            ledger.record(video_list.name(index), error.outcome, error.detail)
            ledger.stop_after_many_in_a_row()
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
