"""Many videos through one model: decoded side by side, answered in the order asked for."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.errors import UserError
from mvit_tf.prediction.inputs import VideoInput


def of_each_video(
    function: Callable[[VideoInput, DecodeWorkers], Any],
    videos: Iterable[VideoInput],
    *,
    num_workers: int,
    time_limit: float = 120.0,
) -> Iterator[tuple[VideoInput, Any, DecodeError | None]]:
    """Calls a function of each video in as many threads as there are decode workers.

    The videos are asked for as they are needed, and no more than twice as many as workers are on
    their way: an answer that is slow to come does not let the others pile up.

    Args:
        function: of a video and the workers to decode it in.
        videos: any number of them.
        num_workers: processes to decode in.
        time_limit: seconds without a frame after which a video cannot be decoded.

    Yields:
        (video, what the function returns, None) of each in order, or (video, None, DecodeError);
        frames that the model refuses are one of outcome "bad_frames".
    """
    with DecodeWorkers(num_workers, time_limit=time_limit) as workers:
        pool = ThreadPoolExecutor(num_workers)
        try:
            waiting = collections.deque()
            for video in videos:
                waiting.append((video, pool.submit(function, video, workers)))
                if len(waiting) == 2 * num_workers:
                    yield _answer(*waiting.popleft())
            while waiting:
                yield _answer(*waiting.popleft())
        finally:
            # Before the pool, whose threads else wait for what is being decoded.
            workers.close()
            pool.shutdown(wait=False, cancel_futures=True)


def _answer(video, future):
    try:
        return video, future.result(), None
    except DecodeError as error:
        return video, None, error
    except UserError as error:  # Frames that the model refuses.
        return video, None, DecodeError(video.path, "bad_frames", str(error))
