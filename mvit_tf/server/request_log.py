"""One line in the log for each request, and its counters."""

import time

from absl import logging

from mvit_tf.server.metrics import ServerMetrics

_LONGEST_PATH = 80


class RequestLog:
    """ASGI middleware around the application.

    A line holds neither the query nor headers nor names of files: they are the client's.

    Args:
        app: what answers.
        metrics: counts.
        endpoints: paths that are counted by name; all others are "other".
    """

    def __init__(self, app, metrics: ServerMetrics, endpoints: tuple[str, ...]):
        self._app, self._metrics, self._endpoints = app, metrics, frozenset(endpoints)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, received, status = time.monotonic(), 0, 500

        async def counted_receive():
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def noted_send(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, counted_receive, noted_send)
        finally:
            seconds = time.monotonic() - start
            failure = scope.get("mvit_tf.failure") or ("internal" if status >= 500 else None)
            path = scope["path"]
            endpoint = path if path in self._endpoints else "other"
            self._metrics.record_request(endpoint, status, seconds, failure)
            # The health of the server is asked for all the time.
            if failure or endpoint not in ("/healthz", "/livez", "/readyz", "/metrics"):
                logging.info(
                    "%s %s %d %.3f s %d bytes%s",
                    scope["method"],
                    path[:_LONGEST_PATH],
                    status,
                    seconds,
                    received,
                    f" {failure}" if failure else "",
                )
