"""Why a request is not answered with a prediction."""

from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.files import one_line


class RequestError(Exception):
    """A request that is refused.

    Args:
        status: of HTTP.
        kind: a word for programs and for the counters of failures.
        message: one line for people.
        headers: of the answer.
    """

    def __init__(self, status: int, kind: str, message: str, headers: dict | None = None):
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, one_line(message)
        self.headers = headers or {}

    def to_dict(self) -> dict:
        """The body of the answer."""
        return {"error": {"kind": self.kind, "message": self.message}}


class ClientGone(RequestError):
    """Nobody waits for the answer any more; 499 is what nginx logs then."""

    def __init__(self):
        super().__init__(499, "client_gone", "the client closed the connection")


def undecodable(error: DecodeError) -> RequestError:
    """What a video that gives no clips is answered with; the server's own paths stay out of it."""
    return RequestError(422, error.outcome, error.detail.replace(str(error.path), "the upload"))
