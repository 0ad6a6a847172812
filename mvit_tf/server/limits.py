"""What a server takes on: how much at once, how large, for how long."""

import dataclasses

from mvit_tf.data.video.decode_workers import available_processors
from mvit_tf.errors import UserError

# A clip of 16 frames in 4K takes 0.4 GB, one of 40 frames 1 GB.
MOST_CLIP_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class ServerLimits:
    """Limits of a server, each with its default.

    Args:
        max_batch_size: clips that the model takes at once, of whichever requests.
        max_wait_ms: milliseconds that a clip waits for others to share a batch with.
        max_upload: bytes of a request's body.
        time_limit: seconds from a request's first byte to its answer.
        max_queue: requests in work or waiting; a further one is refused.
        workers: processes that decode; by default one a processor, eight at most.

    Raises:
        UserError: a value out of range.
    """

    max_batch_size: int = 8
    max_wait_ms: float = 5.0
    max_upload: int = 200 * 10**6
    time_limit: float = 120.0
    max_queue: int = 64
    workers: int = dataclasses.field(default_factory=lambda: min(available_processors(), 8))

    def __post_init__(self):
        for name in ("max_batch_size", "max_upload", "max_queue", "workers"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.max_wait_ms <= 60_000:
            raise UserError(f"--max_wait_ms must lie between 0 and 60000, got {self.max_wait_ms:g}")
        if not 0 < self.time_limit <= 86_400:
            raise UserError(
                f"--time_limit must be above 0 and at most 86400 seconds, got {self.time_limit:g}"
            )

    @property
    def decoder_silence(self) -> float:
        """Seconds without a frame after which a decoder is stopped.

        A third of the time limit: a decoder that hangs is tried twice, and the request is then
        answered with the reason.
        """
        return self.time_limit / 3


def format_size(size: int) -> str:
    """Bytes in the largest decimal unit that keeps the number at 1 or more."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size} bytes"
