"""Opening a video file, and the error for one that gives no frames."""

import contextlib
import os
import stat

import av
from av.stream import Disposition

from mvit_tf.data.remote import RemoteFile
from mvit_tf.errors import UserError
from mvit_tf.files import one_line
from mvit_tf.urls import is_url, without_secrets

OUTCOMES = (
    "missing",  # no such file
    "empty_file",  # zero bytes
    "container_error",  # not a video file, or its header is damaged or cut off
    "no_video_stream",  # audio only
    "no_frames",  # a video stream without one decodable frame
    "decode_error",  # damaged, or cut off, before the last frame asked for
    "too_short",  # for a clip, or ends before the segment
    "too_long",  # for a record
    "corrupt_record",  # a record with a wrong checksum, cut off, or of another kind
    "decoder_timeout",  # no frame within the time limit of a worker
    "decoder_crash",  # the worker ended in the middle
    "bad_frames",  # which the model refuses
)

_SPECIAL_FILES = (
    (stat.S_ISDIR, "a folder, not a video file"),
    (stat.S_ISFIFO, "a pipe, which can be read only once: save it to a file first"),
    (stat.S_ISSOCK, "a socket, which can be read only once: save it to a file first"),
)


class DecodeError(UserError):
    """A file that does not give the frames asked for.

    Attributes:
        path: str, the file.
        outcome: str, one of `OUTCOMES`.
        detail: str, what was wrong.
    """

    def __init__(self, path, outcome, detail):
        super().__init__(path, outcome, detail)
        self.path = path
        self.outcome = outcome
        self.detail = detail

    def __str__(self):
        return without_secrets(one_line(f"{without_secrets(str(self.path))}: {self.detail}"))


@contextlib.contextmanager
def reachable(path):
    """Context in which a file that cannot be read, or no longer, raises a DecodeError."""
    try:
        yield
    except DecodeError:
        raise
    except UserError as error:  # A URL that this installation cannot read.
        raise DecodeError(path, "missing", error.args[0].removeprefix(f"{path}: ")) from None
    except (FileNotFoundError, ValueError) as error:  # ValueError: a zero byte in the name.
        answer = f" ({error.strerror})" if is_url(path) else ""
        raise DecodeError(path, "missing", f"no such file{answer}") from None
    except OSError as error:
        raise DecodeError(path, "missing", f"cannot be reached: {error.strerror}") from None


def check_file(path):
    """Refuses, without opening it, what is no regular file with something in it.

    Merely opening a pipe would wait for one who writes to it.

    Raises:
        DecodeError: no such file, an empty one, a folder, a pipe or another special file.
    """
    if is_url(path):  # It is looked at when it is opened: asking twice takes twice the time.
        return
    with reachable(path):
        status = os.stat(path)
    for is_kind, detail in _SPECIAL_FILES:
        if is_kind(status.st_mode):
            raise DecodeError(path, "container_error", detail)
    if not stat.S_ISREG(status.st_mode):
        raise DecodeError(path, "container_error", "a device, not a video file")
    if status.st_size == 0:
        raise DecodeError(path, "empty_file", "the file is empty (zero bytes)")


def open_container(path):
    """The file or URL as av.container.InputContainer, to be closed by the caller.

    Raises:
        DecodeError: not a video file; of a URL also whenever it cannot be read further.
    """
    # The prefix keeps FFmpeg from taking a name such as "concat:x" for a protocol.
    file = RemoteVideo(path) if is_url(path) else f"file:{path}"
    try:
        container = av.open(file, metadata_errors="replace")
    except av.FFmpegError as error:
        detail = f"cannot be opened as a video: {error.strerror}"
        raise DecodeError(path, "container_error", detail) from None
    if container.format.name == "tty":  # FFmpeg draws text files as ANSI art.
        container.close()
        raise DecodeError(path, "container_error", "cannot be opened as a video: a text file")
    return container


class RemoteVideo(RemoteFile):
    """A `RemoteFile` whose errors are those of the video; PyAV lets them pass."""

    def __init__(self, url):
        self._url = url
        with reachable(url):
            super().__init__(url)
        if not self.seek(0, os.SEEK_END):
            raise DecodeError(url, "empty_file", "the file is empty (zero bytes)")
        self.seek(0)

    def readinto(self, buffer):
        with reachable(self._url):
            return super().readinto(buffer)


def video_stream(path, container):
    """The stream FFmpeg calls best; cover pictures of audio files do not count.

    Raises:
        DecodeError: there is none.
    """
    stream = container.streams.best("video")
    if stream is None or Disposition.attached_pic in stream.disposition:
        kinds = sorted({stream.type for stream in container.streams})
        raise DecodeError(
            path, "no_video_stream", f"no video in this file (streams: {', '.join(kinds)})"
        )
    # Videos are decoded in parallel; threads inside each would only be in the way.
    stream.thread_count = 1
    stream.thread_type = "NONE"
    return stream


def read_packets(container, stream=None):
    """Yields the packets of a stream, or of all; an empty one at the end flushes its decoder.

    Raises:
        av.FFmpegError: the file is damaged here.
    """
    flushed = False
    try:
        for packet in container.demux(*([] if stream is None else [stream])):
            flushed = not packet.size
            yield packet
    except IndexError:
        # So PyAV ends, before or after that empty packet, where a stream first appears midway.
        if stream is not None and not flushed:
            last = av.Packet()
            last.stream = stream
            yield last


def stamps_by_dts(container):
    """Whether frames go by their decoding times.

    AVI stores no presentation times, nor does much MXF, and those FFmpeg derives run backwards
    with B-frames. The frame rate of both is constant.
    """
    return container.format.name in ("avi", "mxf")
