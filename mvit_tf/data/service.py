"""Training clips by way of a tf.data service: other machines decode, this one trains.

The workers of a service run the graph of a dataset, and no Python of this process. So record sets
whose frames are pictures can be served, and everything from the record to the augmented clip is in
TensorFlow's graph here. An epoch is one job, shared out clip by clip to whichever worker asks: each
clip comes once, in an order that depends on who is faster.
"""

import os
import socket
import warnings

import numpy as np
import tensorflow as tf

from mvit_tf.data import transforms
from mvit_tf.data.pipeline import steps_per_epoch
from mvit_tf.data.records import examples
from mvit_tf.data.records.reading import ASSUMED_FPS, parse_record, parse_record_name
from mvit_tf.errors import UserError

# As in `sampling`.
_ROUNDING_GUARD = 1e-6
_service = tf.data.experimental.service


def start_dispatcher(port=0):
    """Starts the dispatcher of a service on this machine; it stops when nothing refers to it.

    Args:
        port: int, to listen on; 0 takes one that is free.

    Returns:
        tf.data.experimental.service.DispatchServer.
    """
    return _started(_service.DispatchServer, _service.DispatcherConfig(port=port))


def start_worker(dispatcher, host, port=0):
    """Starts a worker on this machine; it stops when nothing refers to it.

    Args:
        dispatcher: str, "host:port".
        host: str, the name by which the training reaches this machine.
        port: int, to listen on; 0 takes one that is free.

    Returns:
        tf.data.experimental.service.WorkerServer.
    """
    config = _service.WorkerConfig(
        dispatcher_address=dispatcher,
        # TensorFlow puts the port that it found in place of %port%.
        worker_address=f"{host}:{port or '%port%'}",
        port=port,
    )
    return _started(_service.WorkerServer, config)


def _started(server, config):
    try:
        return server(config)
    except (RuntimeError, tf.errors.OpError) as error:
        raise UserError(f"port {config.port} cannot be listened on: {error}") from None


def check_service(address):
    """Refuses a dispatcher that does not answer, for which TensorFlow would wait without end.

    Raises:
        UserError: not "host:port", or nobody listens there.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"data.service={address}: must be the dispatcher's HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"data.service={address}: no dispatcher answers there ({error}); start one by "
            f"`mvit data-service --port={port}`"
        ) from None


def served_dataset(
    video_list,
    *,
    sampling,
    preprocessing,
    augmentation,
    batch_size,
    epochs,
    start_epoch=0,
    seed,
    service,
    repeated_augmentation=1,
):
    """Batches of random, augmented clips, as of `pipeline.train_dataset`.

    What clip stands at a position is a pure function of (seed, epoch, position). A damaged record
    ends the training: there is nobody to replace it; `mvit check-data` finds it beforehand.

    Args:
        video_list: VideoList of records whose frames are pictures.
        sampling, preprocessing, augmentation, batch_size, epochs, start_epoch, seed,
        repeated_augmentation: see there.
        service: str, "host:port" of the dispatcher.

    Returns:
        tf.data.Dataset of (float32 (B, T, H, W, 3), float32 (B, K)).

    Raises:
        UserError: fewer videos than a batch, one that is no record, or an option that needs
            Python.
    """
    if sampling.short_videos == "reject":
        raise UserError(
            "data.short_videos=reject and data.service exclude each other: the workers of a "
            "service cannot take another video; use repeat_last or loop"
        )
    places = [parse_record_name(path) for path in video_list.paths]
    if None in places:
        raise UserError(
            f"data.service serves record sets, and {video_list.paths[places.index(None)]} is none; "
            "`mvit prepare` makes one"
        )
    file, offset = places[0]
    if (
        examples.FRAMES
        not in parse_record(video_list.paths[0], file, offset).feature_lists.feature_list
    ):
        raise UserError(
            f"data.service serves records whose frames are pictures ({examples.FRAMES}), and "
            f"{video_list.paths[0]} has none; `mvit prepare --frames=jpeg` makes them"
        )
    check_service(service)
    # The workers have current folders of their own.
    files = tf.constant([file if "://" in file else os.path.abspath(file) for file, _ in places])
    offsets = tf.constant([offset for _, offset in places], tf.int64)
    labels = _timed_labels(video_list)
    per_batch = batch_size // repeated_augmentation
    per_epoch = steps_per_epoch(video_list, batch_size, repeated_augmentation) * per_batch

    def load(epoch, position):
        order = tf.stack([seed, epoch])
        video = tf.random.experimental.index_shuffle(position, order, len(video_list) - 1)
        record = _records_from(files[video], offsets[video]).take(1)
        clip_seed = tf.random.fold_in(tf.stack([seed, epoch]), position)

        def clips_of_record(data):
            frames, moments = _decoded_clip(data, sampling, clip_seed)
            clips = [
                transforms.training_preprocess(frames, preprocessing, augmentation, key)
                for key in tf.unstack(tf.random.split(clip_seed, repeated_augmentation))
            ]
            target = _target(labels[video], moments, video_list.num_classes)
            return tf.stack(clips), tf.stack([target] * repeated_augmentation)

        return record.map(clips_of_record)

    def clips_of(epoch):
        positions = tf.data.Dataset.range(per_epoch)
        # The workers run this part, several records at a time.
        clips = positions.interleave(
            lambda position: load(epoch, position),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=False,
        )
        return clips.apply(
            _service.distribute(_service.ShardingPolicy.DYNAMIC, service=f"grpc://{service}")
        )

    with warnings.catch_warnings():
        # That options of a dataset within a dataset cannot be read; nobody reads them.
        warnings.filterwarnings("ignore", message="To make it possible to preserve tf.data options")
        dataset = tf.data.Dataset.range(start_epoch, epochs).flat_map(clips_of)
    # What comes is the clips of one video; those of a batch of videos stand side by side.
    return dataset.unbatch().batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def _timed_labels(video_list):
    """float64 (videos, L, 3): label, start and end of each; rows are filled up by the label -1."""
    rows = []
    for index in range(len(video_list)):
        timed = () if video_list.intervals is None else video_list.intervals[index]
        always = set(video_list.labels_of(index)) - {label for label, _, _ in timed}
        rows.append([*timed, *((label, -np.inf, np.inf) for label in sorted(always))])
    table = np.full((len(rows), max(map(len, rows), default=0), 3), -1.0)
    for row, labels in zip(table, rows, strict=True):
        row[: len(labels)] = labels or np.empty((0, 3))
    return tf.constant(table, tf.float64)


def _target(labels, moments, num_classes):
    """`VideoList.target` in TensorFlow's graph, float32 (K,)."""
    label, start, end = tf.unstack(labels, axis=1)
    counts = (start <= tf.reduce_max(moments)) & (tf.reduce_min(moments) < end)
    classes = tf.where(counts, tf.cast(label, tf.int64), -1)
    # The label -1 is a row of zeros.
    return tf.reduce_max(tf.one_hot(classes, num_classes), axis=0)


def _records_from(file, offset):
    """The records of a file from a place on, as tf.data.Dataset; their checksums are compared."""
    # `TFRecordDataset` itself has no argument for the place.
    records = tf.raw_ops.TFRecordDatasetV2(
        filenames=file[None], compression_type="", buffer_size=2**18, byte_offsets=offset[None]
    )
    return tf.data.experimental.from_variant(records, tf.TensorSpec([], tf.string))


def training_indices(num_frames, fps, sampling, seed):
    """`ClipSampling.training_indices` in TensorFlow's graph.

    Args:
        num_frames: int64 scalar, frames of the video.
        fps: float64 scalar, its frames a second.
        sampling: ClipSampling.
        seed: int tensor (2,).

    Returns:
        int64 (T,).
    """
    length = tf.cast(num_frames, tf.float64)
    if sampling.rule == "segments":
        edge = tf.range(sampling.num_frames + 1, dtype=tf.float64)
        edges = tf.cast(tf.round(edge * (length - 1) / sampling.num_frames), tf.int64)
        draws = tf.random.stateless_uniform([sampling.num_frames], seed, dtype=tf.float64)
        room = tf.cast(edges[1:] - edges[:-1] + 1, tf.float64)
        return edges[:-1] + tf.cast(draws * room, tf.int64)
    span = sampling.num_frames * sampling.sampling_rate * fps / sampling.target_fps
    slack = tf.maximum(length - span, 0.0)
    start = slack * tf.random.stateless_uniform([], seed, dtype=tf.float64)
    return clip_indices(start, num_frames, fps, sampling)


def clip_indices(start, num_frames, fps, sampling):
    """`ClipSampling.indices` in TensorFlow's graph, int64 (T,).

    Args:
        start: float64 scalar.
        num_frames, fps, sampling: see `training_indices`.
    """
    span = sampling.num_frames * sampling.sampling_rate * fps / sampling.target_fps
    steps = tf.range(sampling.num_frames, dtype=tf.float64)
    if sampling.rule == "stride":
        positions = start + steps * (span / sampling.num_frames)
    elif sampling.num_frames == 1:
        positions = start[None]
    else:
        positions = start + steps * ((span - 1) / (sampling.num_frames - 1))
    whole = tf.cast(tf.floor(positions + _ROUNDING_GUARD), tf.int64)
    whole = tf.maximum(whole, 0)
    # A span under one frame would make "linspace" run backwards.
    whole = tf.scan(tf.maximum, whole)
    held = tf.minimum(whole, num_frames - 1)
    if sampling.short_videos == "repeat_last":
        return held
    is_short = tf.cast(num_frames, tf.float64) < tf.floor(span)
    return tf.where(is_short, whole % num_frames, held)


def _decoded_clip(data, sampling, seed):
    """The frames of one random clip of a serialised SequenceExample, and their moments.

    Returns:
        uint8 (T, H, W, 3), and float64 (T,), seconds after the first frame.
    """
    context, sequences = tf.io.parse_single_sequence_example(
        data,
        context_features={
            examples.FRAME_RATE: tf.io.FixedLenFeature([], tf.float32, 0.0),
            examples.START: tf.io.FixedLenFeature([], tf.int64, 0),
            examples.END: tf.io.FixedLenFeature([], tf.int64, 0),
        },
        sequence_features={examples.FRAMES: tf.io.FixedLenSequenceFeature([], tf.string)},
    )
    encoded, rate = sequences[examples.FRAMES], context[examples.FRAME_RATE]
    seconds = tf.cast(context[examples.END] - context[examples.START], tf.float64) / 1e6
    by_times = tf.cast(tf.size(encoded), tf.float64) / tf.maximum(seconds, 1e-6)
    assumed = tf.where(seconds > 0, by_times, ASSUMED_FPS)
    fps = tf.where(rate > 0, tf.cast(rate, tf.float64), assumed)
    indices = training_indices(tf.size(encoded, tf.int64), fps, sampling, seed)
    frames = tf.map_fn(
        # The accurate transform gives the very pixels that other readers of the record see.
        lambda content: tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE"),
        tf.gather(encoded, indices),
        fn_output_signature=tf.uint8,
    )
    frames = tf.ensure_shape(frames, [sampling.num_frames, None, None, 3])
    return frames, tf.cast(indices, tf.float64) / fps
