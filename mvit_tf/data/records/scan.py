"""Every frame of a video or of a record decoded once, to find damage anywhere in it."""

from mvit_tf.data.records import examples
from mvit_tf.data.records.reading import (
    RecordReader,
    open_source,
    parse_record,
    parse_record_name,
    video_within,
)
from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.data.video.scan import VideoScan, scan_steps

_FRAMES_A_STEP = 100


def scan_source_steps(path):
    """`scan_steps` of a video, or of a record, whose checksums are compared too.

    Yields:
        None now and then; at last VideoScan.

    Raises:
        DecodeError: as by `scan_steps`, or the record is damaged.
    """
    place = parse_record_name(path)
    if place is None:
        yield from scan_steps(path)
        return
    message = parse_record(path, *place)
    if examples.VIDEO in message.feature_lists.feature_list:
        with video_within(path, message) as file:
            yield from scan_steps(file)
        return
    with open_source(path) as record:
        yield from _scan_pictures(record)


def _scan_pictures(record: RecordReader):
    num_frames, damage = record.info.num_frames, []
    for index in range(num_frames):
        try:
            record.frames_at_indices([index])
        except DecodeError as error:
            damage.append(error.detail)
        if index % _FRAMES_A_STEP == _FRAMES_A_STEP - 1:
            yield None
    yield VideoScan(
        info=record.info,
        num_decoded=num_frames - len(damage),
        num_damaged=len(damage),
        damaged_share=len(damage) / num_frames,
        detail=damage[0] if damage else "",
    )
