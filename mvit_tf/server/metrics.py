"""What a server counts, in the format of Prometheus."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class ServerMetrics:
    """Counters of one server, in a registry of their own.

    Labels come from fixed sets: what a client sends cannot make new series.
    """

    def __init__(self):
        self._registry = CollectorRegistry()
        common = {"namespace": "mvit", "registry": self._registry}
        self._requests = Counter("requests", "Requests answered", ("endpoint", "status"), **common)
        self._failures = Counter("failures", "Requests refused or failed", ("kind",), **common)
        self._seconds = Histogram(
            "request_seconds",
            "From a request's headers to the end of its answer",
            ("endpoint",),
            buckets=_SECONDS,
            **common,
        )
        self.in_work = Gauge("requests_in_work", "Predictions in work or waiting", **common)
        self._batch = Histogram(
            "batch_clips", "Clips in a batch", buckets=(1, 2, 4, 8, 16, 32, 64), **common
        )
        self._model_seconds = Histogram(
            "batch_seconds", "The model on a batch", buckets=_SECONDS, **common
        )
        ProcessCollector(registry=self._registry)

    def record_request(self, endpoint: str, status: int, seconds: float, failure: str | None):
        """Counts an answer."""
        self._requests.labels(endpoint, status).inc()
        self._seconds.labels(endpoint).observe(seconds)
        if failure:
            self._failures.labels(failure).inc()

    def record_batch(self, size: int, seconds: float):
        """Counts a batch that the model took."""
        self._batch.observe(size)
        self._model_seconds.observe(seconds)

    def text(self) -> bytes:
        """All of it as Prometheus reads it."""
        return generate_latest(self._registry)
