"""tf.data pipelines from a list of videos to batches of clips.

What an epoch holds is a pure function of (seed, epoch, position): the order of the videos, the
start of each clip, its crop and its flip. A run that goes on at step k therefore sees exactly
the batches that an uninterrupted run would have seen, and several machines that share each batch
see together what one would.
"""

import functools
import threading

import numpy as np
import tensorflow as tf

from mvit_tf.data import transforms
from mvit_tf.data.augmentation.blur import import_gaussian
from mvit_tf.data.balanced_order import balanced_order
from mvit_tf.data.clips import evaluation_frames, gather_frames, training_frames
from mvit_tf.data.outcomes import OK, PADDED, PARTIAL
from mvit_tf.data.records.reading import is_remote_record
from mvit_tf.data.video.decode_workers import in_this_process
from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.errors import UserError

# Outcomes on record after which a video is tried all the same: of a damaged one another clip may
# be whole, and whether to try it must not depend on the epochs that this run has seen.
_MAY_RECOVER = (None, "decode_error")
# In evaluation only this ends a run: lists are in order, and neighbours may be damaged alike.
_LOST_DISK = "missing"
# TensorFlow would put what is computed outside of its graphs on a GPU.
_ON_CPU = "CPU:0"

# Keys of the independent random streams of a seed.
_ORDER, _CROP, _START = 0, 1, 2


def steps_per_epoch(video_list, batch_size, repeated_augmentation=1):
    """Batches in a training epoch; the incomplete last one is dropped.

    Args:
        video_list: VideoList.
        batch_size: int, clips in a batch.
        repeated_augmentation: int, clips of each video in a batch. An epoch has each video once,
            and so many clips of it.

    Raises:
        UserError: fewer videos than one batch needs, or a batch that is no multiple of the clips
            of a video.
    """
    for name, value in (
        ("batch_size", batch_size),
        ("repeated_augmentation", repeated_augmentation),
    ):
        if value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")
    videos_per_batch, rest = divmod(batch_size, repeated_augmentation)
    if rest:
        raise UserError(
            f"batch_size={batch_size} must be a multiple of repeated_augmentation="
            f"{repeated_augmentation}, the clips of each video in a batch"
        )
    steps = len(video_list) // videos_per_batch
    if not steps:
        number = len(video_list)
        raise UserError(
            f"{number} {'video is' if number == 1 else 'videos are'} fewer than one batch of "
            f"{videos_per_batch}; add videos or take a smaller batch (train.batch_size)"
        )
    return steps


def training_steps(start, end, skipped=()):
    """Numbers of the training steps, counted from the start of training.

    Args:
        start, end: int, the first step and the one before which to end.
        skipped: ints, steps to leave out.

    Returns:
        tf.data.Dataset of int64 scalars.
    """
    steps = tf.data.Dataset.range(start, end)
    left_out = sorted({step for step in skipped if start <= step < end})
    if not left_out:
        return steps
    number = end - start - len(left_out)
    left_out = tf.constant(left_out, tf.int64)
    steps = steps.filter(lambda step: tf.reduce_all(step != left_out))
    return steps.apply(tf.data.experimental.assert_cardinality(number))


def shard_of_batch(num_videos, shard):
    """Which videos of a batch one of several machines takes.

    A clip is mixed with that at the same place of the reversed batch, so a machine takes both:
    the reverse of its share has the same partners as that of the whole.

    Args:
        num_videos: int, videos of a batch.
        shard: (index, number) of the machine and of all.

    Returns:
        list of int, places in the batch, ascending. Where the videos of a machine are odd in
        number, neighbours, which must not be mixed.

    Raises:
        UserError: the videos cannot be shared out evenly.
    """
    index, number = shard
    share, rest = divmod(num_videos, number)
    if rest:
        raise UserError(
            f"a batch of {num_videos} videos cannot be shared out evenly to {number} machines"
        )
    if share % 2 and number > 1:
        return list(range(index * share, (index + 1) * share))
    half = share // 2
    first = list(range(index * half, (index + 1) * half))
    if number == 1:
        return list(range(num_videos))
    return first + [num_videos - 1 - place for place in reversed(first)]


def videos_of_step(
    video_list, step, *, batch_size, seed, repeated_augmentation=1, balanced_sampling=False
):
    """The videos that a training step asks for, whatever becomes of them.

    Args:
        video_list, batch_size, seed, repeated_augmentation, balanced_sampling: of `train_dataset`.
        step: int, counted from the start of training.

    Returns:
        list of int, the index of the video of each clip.
    """
    steps = steps_per_epoch(video_list, batch_size, repeated_augmentation)
    epoch, within = divmod(step, steps)
    order = _epoch_order(video_list, seed, epoch, balanced_sampling)
    first = within * (batch_size // repeated_augmentation)
    videos = order[first : first + batch_size // repeated_augmentation]
    return [int(video) for video in np.repeat(videos, repeated_augmentation)]


def train_dataset(
    video_list,
    *,
    sampling,
    preprocessing,
    augmentation,
    batch_size,
    epochs,
    start_step=0,
    skipped_steps=(),
    shard=(0, 1),
    seed,
    ledger,
    repeated_augmentation=1,
    balanced_sampling=False,
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
        start_step: int. The first step it holds, counted from the start of training.
        skipped_steps: ints. Steps it does not hold.
        shard: (index, number): the share of each batch that it holds, see `shard_of_batch`.
        seed: int >= 0.
        ledger: OutcomeLedger.
        repeated_augmentation: int, N. As by SlowFast's ``AUG.NUM_SAMPLE``, one random clip of each
            of B / N videos is decoded and augmented N times; these stand side by side.
        balanced_sampling: bool. Take the videos of an epoch by `balanced_order` instead of each
            once.
        workers: DecodeWorkers to decode in; by default the threads of tf.data do it themselves.
        num_parallel: int. Videos decoded at the same time; by default tf.data decides.
        tolerated_damage: float in [0, 1). Share of a clip's frames that may be undecodable.

    Returns:
        tf.data.Dataset of (float32 (B, T, H, W, 3), float32 (B, K)): clips and their labels as
        zeros and ones (`VideoList.target`), a batch for each step from `start_step` to
        ``epochs * steps_per_epoch - 1`` that is not skipped. Of several shards, B is the clips
        of this one.

    Raises:
        UserError: fewer videos than a batch, a bad seed, no package for the blur, or no video
            that can be decoded.
    """
    if seed < 0:
        raise UserError(f"the seed must be 0 or more, not {seed}")
    if augmentation.blur:
        import_gaussian()  # Inside tf.data its absence would not be one line.
    videos_per_batch = batch_size // repeated_augmentation
    steps = steps_per_epoch(video_list, batch_size, repeated_augmentation)
    places = shard_of_batch(videos_per_batch, shard)
    clips_per_batch = len(places) * repeated_augmentation
    run = runner(workers)
    require_one_decodable(video_list, sampling, ledger, run, tolerated_damage)
    source = TrainingClips(
        video_list,
        sampling,
        preprocessing,
        augmentation,
        steps * videos_per_batch,
        repeated_augmentation,
        balanced_sampling,
        seed,
        ledger,
        run,
        tolerated_damage,
    )

    def samples_of(step):
        samples = step * videos_per_batch + tf.constant(places, tf.int64)
        return tf.data.Dataset.from_tensor_slices(samples)

    def load(sample):
        # Declared stateless, so that op determinism does not force one call at a time.
        clips, target, seeds = tf.numpy_function(
            source, [sample], [tf.float32, tf.float32, tf.int32], stateful=False
        )
        clips.set_shape([repeated_augmentation, sampling.num_frames, *preprocessing.size, 3])
        target.set_shape([video_list.num_classes])
        seeds.set_shape([repeated_augmentation, 2])
        augmented = [
            transforms.augment(clip, preprocessing, augmentation, clip_seed)
            for clip, clip_seed in zip(tf.unstack(clips), tf.unstack(seeds), strict=True)
        ]
        return tf.stack(augmented), tf.stack([target] * repeated_augmentation)

    def flatten(clips, targets):
        return tuple(tf.reshape(x, [clips_per_batch, *x.shape[2:]]) for x in (clips, targets))

    numbers = training_steps(start_step, epochs * steps, skipped_steps)
    dataset = numbers.flat_map(samples_of).map(load, _parallel(num_parallel), deterministic=True)
    dataset = dataset.batch(len(places), drop_remainder=True).map(flatten)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(numbers)))
    return dataset.with_options(dataset_options()).prefetch(tf.data.AUTOTUNE)


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
    order=None,
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
        order: tf.data.Dataset of int64 scalars, the videos to take; by default the whole list.

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
    run = runner(workers)
    require_one_decodable(video_list, sampling, ledger, run, tolerated_damage, _LOST_DISK)
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
            ledger.stop_after_many_in_a_row(_LOST_DISK)
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

    dataset = tf.data.Dataset.range(len(video_list)) if order is None else order
    dataset = dataset.map(load, _parallel(num_parallel), deterministic=True)
    dataset = dataset.unbatch().batch(batch_size)
    return dataset.with_options(dataset_options()).prefetch(tf.data.AUTOTUNE)


class TrainingClips:
    """Sample number -> (clips, target, seeds of their augmentation); safe to call from threads.

    The clips are cuts (N, T, H, W, 3) of the frames of one video, which is decoded once. They are
    cut and resized here, part by part, so that large frames are never all in memory.
    """

    def __init__(
        self,
        video_list,
        sampling,
        preprocessing,
        augmentation,
        per_epoch,
        repeats,
        balanced_sampling,
        seed,
        ledger,
        run,
        tolerated_damage,
        shuffle=True,
    ):
        self._videos = video_list
        self._sampling = sampling
        self._preprocessing = preprocessing
        self._augmentation = augmentation
        self._per_epoch = per_epoch
        self._repeats = repeats
        self._balanced_sampling = balanced_sampling
        self._seed = seed
        self._ledger = ledger
        self._run = run
        self._tolerated_damage = tolerated_damage
        self._shuffle = shuffle
        self._order_lock = threading.Lock()
        self._order = functools.lru_cache(maxsize=4)(self._epoch_order)

    def __call__(self, sample):
        epoch, position = divmod(int(sample), self._per_epoch)
        seeds = np.random.default_rng(self._seed_of(_CROP, epoch, position)).integers(
            0, 2**31, (self._repeats, 2), dtype=np.int32
        )
        with self._order_lock:  # Threads would work it out side by side.
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
                    clips, facts = self._decode(video, start_seed, seeds)
                except DecodeError as error:
                    outcome, detail = error.outcome, error.detail
                    self._ledger.record(name, outcome, detail)
                    self._ledger.stop_after_many_in_a_row()
                else:
                    outcome = _record_decoded(self._ledger, name, facts)
                    for number in range(position * self._repeats, (position + 1) * self._repeats):
                        self._ledger.record_clip(
                            epoch, number, name, outcome, failed, damaged=facts.damaged
                        )
                    span = facts.moments.min(), facts.moments.max()
                    return clips, self._videos.target(video, *span), seeds
            failed.append((name, outcome, detail))
        raise self._ledger.nothing_decoded()

    def _decode(self, video, start_seed, seeds):
        """(float32 (N, T, h, w, 3), ClipFrames)"""
        boxes = []

        def shrink(frames, facts):
            with tf.device(_ON_CPU):
                if not boxes:
                    size = facts.height, facts.width
                    for seed in seeds:
                        drawn = transforms.training_box(*size, self._augmentation, seed)
                        boxes.append(tuple(side.numpy() for side in drawn))
                cuts = [transforms.training_crop(frames, box, self._preprocessing) for box in boxes]
                return np.stack([cut.numpy() for cut in cuts], axis=1)

        path, segment = self._videos.paths[video], self._videos.segment(video)
        items = self._run(
            training_frames, path, self._sampling, start_seed, segment, self._tolerated_damage
        )
        frames, facts = gather_frames(items, shrink)
        return frames[facts.picks[0]].swapaxes(0, 1), facts

    def _epoch_order(self, epoch):
        if not self._shuffle:
            return np.arange(len(self._videos))
        return _epoch_order(self._videos, self._seed, epoch, self._balanced_sampling)

    def _seed_of(self, *key):
        return np.random.SeedSequence(self._seed, spawn_key=key)


def _epoch_order(video_list, seed, epoch, balanced_sampling):
    """The videos of an epoch in the order of its clips."""
    if balanced_sampling:
        return balanced_order(video_list, seed, epoch)
    key = np.random.SeedSequence(seed, spawn_key=(_ORDER, epoch))
    return np.random.default_rng(key).permutation(len(video_list))


def runner(workers):
    """Runs a decoding function in a worker or, without workers, in the calling thread.

    There too where TensorFlow opens the file, which workers are without.
    """

    def run(function, path, *args):
        if workers is None or is_remote_record(path):
            return in_this_process(function, path, *args)
        return workers.run(function, path, *args)

    return run


def _record_decoded(ledger, name, facts):
    """Notes and returns the outcome of a video with these ClipFrames."""
    if facts.damaged:
        detail = f"{facts.damaged:.1%} of the frames asked for are lost: {facts.damage}"
        ledger.record(name, PARTIAL, detail, damaged=facts.damaged)
        return PARTIAL
    outcome = PADDED if facts.padded else OK
    ledger.record(name, outcome)
    return outcome


def require_one_decodable(video_list, sampling, ledger, run, tolerated_damage, stop_at=None):
    """Finds out before TensorFlow starts if not one video of the list can be decoded.

    `stop_at`: the outcome of which many in a row end it; by default any.
    """
    for index, path in enumerate(video_list.paths):
        try:
            segment = video_list.segment(index)
            for _ in run(evaluation_frames, path, sampling, 1, segment, tolerated_damage):
                pass
        except DecodeError as error:
            ledger.record(video_list.name(index), error.outcome, error.detail)
            ledger.stop_after_many_in_a_row(stop_at)
        else:
            ledger.end_of_failures()
            return
    if not len(video_list):
        raise UserError("the list holds no videos")
    raise ledger.nothing_decoded()


def _parallel(num_parallel):
    return tf.data.AUTOTUNE if num_parallel is None else num_parallel


def dataset_options():
    options = tf.data.Options()
    # Under a strategy, split batches by element: there are no input files to split by.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options
