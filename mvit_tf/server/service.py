"""From a file or frames to probabilities: decoding processes, a batcher and who waits for both."""

import collections
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mvit_tf.data.clips import ClipFrames, whole_clips
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.errors import UserError
from mvit_tf.server.batching import ClipBatcher
from mvit_tf.server.errors import RequestError, undecodable
from mvit_tf.server.limits import ServerLimits
from mvit_tf.server.untrusted import untrusted_clip_parts, untrusted_images
from mvit_tf.server.uploads import read_clip

# Clips of one video that wait for the model while the next one is decoded.
_AHEAD_BYTES = 2**26
# How files begin that Pillow reads: JPEG, PNG, BMP, GIF, TIFF, PNM.
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"P5", b"P6")


class Cancelled(Exception):
    """Nobody waits for the result any more."""


class PredictionService:
    """Predicts what requests send, many at a time; its methods run in threads of `executor`.

    Args:
        predictor: VideoPredictor, of any kind of model.
        limits: ServerLimits.
        observe_batch: see `ClipBatcher`.

    Attributes:
        executor: as many threads as there are processes that decode.
        metadata: of the predictor.
    """

    def __init__(
        self,
        predictor,
        limits: ServerLimits,
        observe_batch=lambda size, seconds: None,
    ):
        self.metadata = predictor.metadata
        self._predict = predictor.predict_frames
        self._workers = DecodeWorkers(limits.workers, time_limit=limits.decoder_silence)
        self.executor = ThreadPoolExecutor(limits.workers, thread_name_prefix="request")
        self._batcher = ClipBatcher(
            predictor.predict_frames,
            max_batch_size=limits.max_batch_size,
            max_wait=limits.max_wait_ms / 1000,
            observe=observe_batch,
        )

    @property
    def ready(self) -> bool:
        """Whether clips are taken on."""
        return self._batcher.alive

    def warm_up(self):
        """A first clip, so that no request waits for what TensorFlow sets up."""
        height, width = self.metadata.preprocessing.size
        shape = (1, self.metadata.sampling.num_frames, height, width, 3)
        self._predict(np.zeros(shape, np.uint8))

    def close(self):
        """Ends the processes and threads; what they were at is given up."""
        self._workers.close()
        self.executor.shutdown(wait=True, cancel_futures=True)
        self._batcher.close()

    def predict_video(self, path: Path, cancelled: threading.Event) -> dict:
        """A video's probabilities, as `VideoPredictor.predict_video`, and what was looked at.

        Args:
            path: the upload; one that is an image is renamed as such for an image model.
            cancelled: set once nobody waits any more.

        Returns:
            probabilities float32 (K,); clips, a list of start and end in seconds; width, height,
            padded; seconds of decoding and of waiting for the model.

        Raises:
            RequestError: it cannot be decoded, or the model refuses its frames.
            Cancelled: `cancelled` was set.
        """
        metadata = self.metadata
        if metadata.image and _begins_as_image(path):
            path = path.rename(path.with_suffix(".jpg"))
        parts = _FactsFirst(
            self._workers.run(
                untrusted_clip_parts, str(path), metadata.sampling, metadata.num_clips
            )
        )
        rows, seconds = self._predict_clips(whole_clips(parts), cancelled)
        facts = parts.facts
        combine = np.max if metadata.ensemble_method == "max" else np.mean
        return {
            "probabilities": combine(rows, axis=0),
            "clips": [(float(moments[0]), float(moments[-1])) for moments in facts.moments],
            "width": facts.width,
            "height": facts.height,
            "padded": facts.padded,
            "seconds": seconds,
        }

    def predict_array(self, path: Path, cancelled: threading.Event) -> dict:
        """A clip's probabilities, of an array as numpy.save writes it; see `predict_video`."""
        return self._predict_clip(lambda: read_clip(path), cancelled)

    def predict_images(self, folder: Path, count: int, cancelled: threading.Event) -> dict:
        """A clip's probabilities, of its frames as image files; see `predict_video`."""
        self._check_count(count)
        pattern = str(folder / "{}.jpg")
        images = self._workers.run(untrusted_images, pattern, count)
        return self._predict_clip(lambda: np.concatenate(list(images)), cancelled)

    def _predict_clip(self, read, cancelled):
        def clips():
            clip = read()
            self._check_count(len(clip))
            yield clip

        rows, seconds = self._predict_clips(clips(), cancelled)
        return {"probabilities": rows[0], "seconds": seconds}

    def _check_count(self, count):
        wanted = self.metadata.sampling.num_frames
        if count != wanted:
            raise RequestError(
                422, "bad_frames", f"{count} frames came, and this model's clips have {wanted}"
            )

    def _predict_clips(self, clips, cancelled):
        """Hands clips to the batcher as they come, some ahead of the model's answers."""
        futures, waiting = [], collections.deque()
        decoding = predicting = 0.0
        try:
            with contextlib.closing(clips):
                while True:
                    start = time.monotonic()
                    clip = next(clips, None)
                    decoding += time.monotonic() - start
                    if cancelled.is_set():
                        raise Cancelled
                    if clip is None:
                        break
                    futures.append(self._batcher.submit(clip))
                    waiting.append(futures[-1])
                    ahead = max(_AHEAD_BYTES // clip.nbytes, 1)
                    start = time.monotonic()
                    while len(waiting) > ahead:
                        waiting.popleft().result()
                    predicting += time.monotonic() - start
            start = time.monotonic()
            rows = [future.result() for future in futures]
            predicting += time.monotonic() - start
        except DecodeError as error:
            raise undecodable(error) from None
        except UserError as error:
            raise RequestError(422, "bad_frames", str(error)) from None
        finally:
            for future in futures:
                future.cancel()
        return rows, {"decode": decoding, "predict": predicting}


class _FactsFirst:
    """A generator of `clip_parts` that keeps the facts it begins with."""

    def __init__(self, parts):
        self._parts = parts
        self.facts = None

    def __iter__(self):
        return self

    def __next__(self):
        item = next(self._parts)
        if isinstance(item, ClipFrames):
            self.facts = item
        return item

    def close(self):
        self._parts.close()


def _begins_as_image(path):
    with open(path, "rb") as file:
        start = file.read(16)
    return start.startswith(_IMAGES) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
