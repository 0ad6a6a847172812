"""What a record holds: a tf.train.SequenceExample, made and parsed without TensorFlow.

The keys are those of the Model Garden (`official.vision.dataloaders.video_input`), of DMVR and of
MediaSequence. The context comes first in the message, so that what a record is about can be read
without its frames.
"""

import dataclasses

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError as _NotThisMessage

# Frames, one encoded picture each; or the one file that the video was.
FRAMES = "image/encoded"
VIDEO = "video/encoded"
TIMESTAMPS = "image/timestamp"  # microseconds
LABEL_INDEX = "clip/label/index"
# The times of labels, as MediaSequence has them: one entry for each.
INTERVAL_LABEL = "segment/label/index"
INTERVAL_START, INTERVAL_END = "segment/start/timestamp", "segment/end/timestamp"  # microseconds
# DMVR's name of it, and MediaSequence's.
LABEL_TEXT = ("clip/label/text", "clip/label/string")
START, END = "clip/start/timestamp", "clip/end/timestamp"  # microseconds
# Likewise.
SOURCE = ("video/filename", "clip/data_path")
FRAME_RATE = "image/frame_rate"
NUM_FRAMES = "image/num_frames"
HEIGHT, WIDTH, FORMAT = "image/height", "image/width", "image/format"

# In the sets of TensorFlow Datasets, which are tf.train.Examples: read as a SequenceExample, such a
# message is one that has nothing but a context.
TFDS_FRAMES, TFDS_LABEL = "video", "label"

_FIRST_FIELD = 0x0A  # The tag of the field 1, of a length that follows as a varint.
_TAG_AND_LENGTH = 11  # Bytes, at most.
# Enough for the context of most records, and for any feature that is not of frames.
HEAD_BYTES = 2**14


class NotASequenceExample(ValueError):
    """Bytes that are no such message, or one without frames."""


@dataclasses.dataclass(frozen=True)
class RecordHead:
    """What the context of a record says.

    Args:
        labels: tuple of int.
        texts: tuple of str, the names of the labels.
        source: str, the video that it was made from; empty where it is not said.
        fps: float, frames a second, or None.
        num_frames: int, or None.
        start, end: float, seconds of the part of the source, or None.
        format: str, of the pictures or of the video; empty where it is not said.
        intervals: tuple of (label, start, end) in seconds of the source, or None.
    """

    labels: tuple[int, ...]
    texts: tuple[str, ...]
    source: str
    fps: float | None
    num_frames: int | None
    start: float | None
    end: float | None
    format: str
    intervals: tuple[tuple[int, float, float], ...] | None = None

    @property
    def segment(self):
        """(start, end) of the part to look at, where the record holds a whole video, or None."""
        if self.format.lower() in ("", "jpeg", "jpg", "png") or self.start is None:
            return None
        return self.start, self.end


def serialise(context, sequences):
    """A SequenceExample in bytes, the same for the same values.

    Args:
        context: dict of str to one or a list of int, float, str or bytes.
        sequences: dict of str to a list of bytes or int, one for each frame.
    """
    message = SequenceExample()
    for key, value in context.items():
        if value == []:  # A feature of no kind would not be parsed.
            continue
        _set(message.context.feature[key], value if isinstance(value, list) else [value])
    for key, values in sequences.items():
        steps = message.feature_lists.feature_list[key].feature
        for value in values:
            _set(steps.add(), [value])
    return message.SerializeToString(deterministic=True)


def parse(data):
    """The SequenceExample that `data` holds.

    Raises:
        NotASequenceExample: it does not.
    """
    try:
        return SequenceExample.FromString(data)
    except _NotThisMessage:
        raise NotASequenceExample("it is not a tf.train.SequenceExample") from None


def parse_head(file, position, length, start):
    """The RecordHead of a record from its context; None where this does not come first.

    Args:
        file: an open binary file.
        position: int, where in it the data of the record begin.
        length: int, bytes of these data.
        start: bytes, the first `HEAD_BYTES` of them.

    Raises:
        NotASequenceExample: it is none.
    """
    if len(start) == length:
        return head_of(parse(start))
    size, first = _length_of_field(start)
    if size is None:
        return None
    if first + size <= len(start):
        return head_of(parse(start[: first + size]))
    return head_of(_small_features(file, position + first, min(size, length - first)))


def _small_features(file, position, size):
    """A SequenceExample with the features of a context that are not large, as frames are."""
    message, end = SequenceExample(), position + size
    while position < end:
        file.seek(position)
        length, first = _length_of_field(file.read(_TAG_AND_LENGTH))
        if length is None:
            raise NotASequenceExample("it is not a tf.train.SequenceExample")
        if length <= HEAD_BYTES:
            file.seek(position)
            try:
                message.context.MergeFromString(file.read(first + length))
            except _NotThisMessage:
                raise NotASequenceExample("it is not a tf.train.SequenceExample") from None
        position += first + length
    return message


def _length_of_field(start):
    """(bytes of the field 1, where they begin) of a message; (None, 0) if it begins otherwise."""
    if not start or start[0] != _FIRST_FIELD:
        return None, 0
    return _varint(start, 1)


def frames_of(message):
    """The encoded frames of a SequenceExample as a sequence of bytes; None where it has none."""
    lists, context = message.feature_lists.feature_list, message.context.feature
    if FRAMES in lists:
        return _Steps(lists[FRAMES].feature)
    if TFDS_FRAMES in context and context[TFDS_FRAMES].WhichOneof("kind") == "bytes_list":
        return context[TFDS_FRAMES].bytes_list.value
    return None


class _Steps:
    """The one value of each feature of a list, as a sequence; only what is asked for is copied."""

    def __init__(self, features):
        self._features = features

    def __len__(self):
        return len(self._features)

    def __getitem__(self, index):
        values = self._features[index].bytes_list.value
        return values[0] if values else b""


def head_of(message):
    """The RecordHead of a SequenceExample."""
    context = message.context.feature

    def values(*keys):
        for key in keys:
            if key in context and context[key].WhichOneof("kind"):
                return list(getattr(context[key], context[key].WhichOneof("kind")).value)
        return []

    def one(*keys):
        return next(iter(values(*keys)), None)

    start, end = one(START), one(END)
    return RecordHead(
        labels=tuple(values(LABEL_INDEX, TFDS_LABEL)),
        texts=tuple(_text(value) for value in values(*LABEL_TEXT)),
        source=_text(one(*SOURCE) or b""),
        fps=one(FRAME_RATE),
        num_frames=one(NUM_FRAMES),
        start=None if start is None else start / 1e6,
        end=None if end is None else end / 1e6,
        format=_text(one(FORMAT) or b""),
        intervals=_intervals(*map(values, (INTERVAL_LABEL, INTERVAL_START, INTERVAL_END))),
    )


def _intervals(labels, starts, ends):
    if not labels or not len(labels) == len(starts) == len(ends):
        return None
    seconds = ([moment / 1e6 for moment in moments] for moments in (starts, ends))
    return tuple(zip(labels, *seconds, strict=True))


def _text(value):
    # Names that are not UTF-8 keep their bytes, as Python's names of files do.
    return value.decode("utf-8", errors="surrogateescape")


def _set(feature, values):
    if isinstance(values[0], str):
        values = [value.encode("utf-8", errors="surrogateescape") for value in values]
    kind = {bytes: "bytes_list", float: "float_list", int: "int64_list"}[type(values[0])]
    getattr(feature, kind).value.extend(values)


def _varint(data, position):
    value = shift = 0
    while position < len(data):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
    return None, position


def _sequence_example():
    """The class of the message: the fields of tensorflow/core/example/*.proto."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="mvit_tf/example.proto", package="mvit_tf", syntax="proto3"
    )

    def add(parent, name, fields):
        message = parent.add(name=name)
        for number, (key, kind, repeated) in enumerate(fields, start=1):
            one = message.field.add(name=key, number=number, label=1 + 2 * repeated)
            if isinstance(kind, str):
                one.type, one.type_name = field.TYPE_MESSAGE, f".mvit_tf.{kind}"
            else:
                one.type = kind
        return message

    def add_map(name, key, kind):
        message = add(file.message_type, name, [(key, f"{name}.Entry", True)])
        entry = add(
            message.nested_type,
            "Entry",
            [("key", field.TYPE_STRING, False), ("value", kind, False)],
        )
        # What the runtime calls the entries of a map.
        entry.name = "".join(part.capitalize() for part in key.split("_")) + "Entry"
        message.field[0].type_name = f".mvit_tf.{name}.{entry.name}"
        entry.options.map_entry = True

    kinds = (("BytesList", field.TYPE_BYTES), ("FloatList", field.TYPE_FLOAT),
             ("Int64List", field.TYPE_INT64))  # fmt: skip
    for name, kind in kinds:
        add(file.message_type, name, [("value", kind, True)])
    lists = ("bytes_list", "float_list", "int64_list")
    names = [name for name, _ in kinds]
    feature = add(
        file.message_type,
        "Feature",
        [(key, name, False) for key, name in zip(lists, names, strict=True)],
    )
    feature.oneof_decl.add(name="kind")
    for one in feature.field:
        one.oneof_index = 0
    add_map("Features", "feature", "Feature")
    add(file.message_type, "FeatureList", [("feature", "Feature", True)])
    add_map("FeatureLists", "feature_list", "FeatureList")
    add(
        file.message_type,
        "SequenceExample",
        [("context", "Features", False), ("feature_lists", "FeatureLists", False)],
    )
    # A pool of its own: TensorFlow's has messages of these names in this process or not.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("mvit_tf.SequenceExample"))


SequenceExample = _sequence_example()
