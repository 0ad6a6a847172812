"""The clip of a video that is explained."""

import os

from mvit_tf.data.clips import evaluation_frames, gather_frames
from mvit_tf.data.transforms import evaluation_preprocess
from mvit_tf.data.video.decode_workers import in_this_process
from mvit_tf.errors import UserError


def read_clip(path, metadata, *, start=None, workers=None):
    """Decodes one clip as the model takes it.

    Args:
        path: of the video.
        metadata: ExportMetadata of the model.
        start: float, seconds, where the clip begins, or None for the middle one.
        workers: DecodeWorkers; by default this process decodes.

    Returns:
        (float32 (T, h, w, 3), normalised; its frames a second).

    Raises:
        DecodeError: the video cannot be decoded, or ends before `start`.
        UserError: a negative `start`, or one for a model that takes frames of the whole video.
    """
    sampling = metadata.sampling
    segment = None
    if start is not None:
        if not 0 <= start < float("inf"):
            raise UserError(f"--start={start:g}: must be 0 or more")
        if sampling.rule == "segments":
            raise UserError(f"--start={start:g}: the model takes frames of the whole video")
        segment = (start, start + sampling.span(1.0))
    run = in_this_process if workers is None else workers.run
    frames, facts = gather_frames(
        run(evaluation_frames, os.fspath(path), sampling, 1, segment),
        # The frames are shrunk as they come: a clip of large ones would fill the memory.
        lambda frames, _: evaluation_preprocess(frames, metadata.preprocessing).numpy(),
    )
    moments = facts.moments[0]
    span = float(moments[-1] - moments[0])
    return frames[facts.picks[0]], (len(moments) - 1) / span if span > 0 else 1.0
