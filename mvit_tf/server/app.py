"""The HTTP interface: what is asked where, and what becomes of it."""

import asyncio
import contextlib
import math
import threading
import time
from pathlib import Path

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

import mvit_tf
from mvit_tf.files import is_disk_full
from mvit_tf.server import uploads
from mvit_tf.server.answers import (
    ClipAnswer,
    FailureAnswer,
    Seconds,
    ServerInformation,
    VideoAnswer,
    VideoClip,
    top_classes,
)
from mvit_tf.server.errors import ClientGone, RequestError
from mvit_tf.server.limits import ServerLimits
from mvit_tf.server.metrics import ServerMetrics
from mvit_tf.server.request_log import RequestLog
from mvit_tf.server.service import PredictionService

_ENDPOINTS = {
    "/predict": "POST a video file, as the body or in a form",
    "/predict_frames": "POST a clip's frames: an array of numpy.save, or images in a form",
    "/healthz": "whether requests are taken on; also /livez, /readyz",
    "/metrics": "counters for Prometheus",
    "/docs": "all of this to read and try; /openapi.json",
}
_FAILURES = {
    status: {"model": FailureAnswer, "description": what}
    for status, what in {
        400: "no body, or a form that cannot be read",
        408: "the body came too slowly",
        413: "larger than is taken",
        422: "no video or clip, or one that cannot be decoded; a parameter out of range",
        503: "as many requests as are taken at once are in work; try again after Retry-After",
        504: "not done within the time limit",
    }.items()
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def _body(media_type, what, field, schema):
    form = {"type": "object", "properties": {field: schema}, "required": [field]}
    content = {media_type: _BINARY, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "description": what, "content": content}}


_VIDEO_BODY = _body("application/octet-stream", "a video file", "video", _BINARY["schema"])
_FRAMES_BODY = _body(
    "application/x-npy",
    "uint8 (T, H, W, 3) as numpy.save writes it, or T images (JPEG, PNG) of one size, in order",
    "frames",
    {"type": "array", "items": _BINARY["schema"]},
)


def create_app(
    service: PredictionService,
    limits: ServerLimits,
    metrics: ServerMetrics,
    folder: Path,
) -> FastAPI:
    """The application that answers requests.

    Args:
        service: what predicts.
        limits: what is taken on.
        metrics: counts it.
        folder: for uploads.
    """
    # FastAPI's own page takes its scripts from elsewhere.
    app = FastAPIOffline(
        title=f"mvit serve: {service.metadata.model_name}",
        version=mvit_tf.__version__,
        description="Classes of videos and clips.",
        redoc_url=None,
    )
    app.add_middleware(
        RequestLog, metrics=metrics, endpoints=(*_ENDPOINTS, "/", "/livez", "/readyz")
    )
    _add_failures(app)
    _add_information(app, service, limits, metrics)
    handling = _Handling(service, limits, metrics, folder)
    most = len(service.metadata.class_names)

    @app.post("/predict", responses=_FAILURES, openapi_extra=_VIDEO_BODY)
    async def predict(
        request: Request, top: int = Query(5, ge=1, description="how many classes")
    ) -> VideoAnswer:
        """The most probable classes of a video."""

        async def save(folder, deadline):
            path = folder / "video"
            await uploads.save_upload(request, path, limits.max_upload, deadline)
            return service.predict_video, path

        found, seconds = await handling.answer(request, save)
        return VideoAnswer(
            classes=top_classes(service.metadata, found["probabilities"], min(top, most)),
            multi_label=service.metadata.multi_label,
            seconds=seconds,
            clips=[VideoClip(start=start, end=end) for start, end in found["clips"]],
            width=found["width"],
            height=found["height"],
            padded=found["padded"],
        )

    @app.post("/predict_frames", responses=_FAILURES, openapi_extra=_FRAMES_BODY)
    async def predict_frames(
        request: Request, top: int = Query(5, ge=1, description="how many classes")
    ) -> ClipAnswer:
        """The most probable classes of one clip, given as its frames."""

        async def save(folder, deadline):
            if uploads.is_form(request):
                count = await uploads.save_images(request, folder, limits.max_upload, deadline)
                return service.predict_images, folder, count
            path = folder / "clip.npy"
            await uploads.save_upload(request, path, limits.max_upload, deadline)
            return service.predict_array, path

        found, seconds = await handling.answer(request, save)
        return ClipAnswer(
            classes=top_classes(service.metadata, found["probabilities"], min(top, most)),
            multi_label=service.metadata.multi_label,
            seconds=seconds,
        )

    return app


class _Handling:
    """What every prediction goes through: a place, the upload, the work, the time limit."""

    def __init__(self, service, limits, metrics, folder):
        self._service, self._limits, self._metrics = service, limits, metrics
        self._folder = folder
        self._in_work = 0

    async def answer(self, request, save):
        """Saves what a request sends, and works on it.

        Args:
            request: of the client.
            save: coroutine function of (folder, deadline) to the service's method and its
                arguments.

        Returns:
            (what the method returns, Seconds).
        """
        start = time.monotonic()
        deadline = start + self._limits.time_limit
        if self._in_work >= self._limits.max_queue:
            await uploads.refuse(
                request,
                RequestError(
                    503,
                    "queue_full",
                    f"{self._limits.max_queue} requests are in work, which is all that is taken",
                    {"Retry-After": str(self._retry_after())},
                ),
            )
        with self._place(), contextlib.ExitStack() as context:
            with _room_for_uploads():
                folder = context.enter_context(uploads.upload_folder(self._folder))
                method, *arguments = await save(folder, deadline)
            uploaded = time.monotonic()
            found = await self._run(request, deadline, method, *arguments)
        done = time.monotonic()
        return found, Seconds(total=done - start, upload=uploaded - start, **found["seconds"])

    @contextlib.contextmanager
    def _place(self):
        self._in_work += 1
        self._metrics.in_work.inc()
        try:
            yield
        finally:
            self._in_work -= 1
            self._metrics.in_work.dec()

    def _retry_after(self):
        """Seconds, in which a part of what is in work should be done."""
        return max(math.ceil(min(self._limits.time_limit / 10, 5)), 1)

    async def _run(self, request, deadline, method, *arguments):
        cancelled = threading.Event()
        work = asyncio.wrap_future(self._service.executor.submit(method, *arguments, cancelled))
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait(
                {work, gone},
                timeout=max(deadline - time.monotonic(), 0),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if work.done():
                return work.result()
            if gone.done():
                raise ClientGone
            raise RequestError(
                504, "time_limit", f"not done within {self._limits.time_limit:g} seconds"
            )
        finally:
            cancelled.set()
            gone.cancel()
            work.cancel()


@contextlib.contextmanager
def _room_for_uploads():
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise RequestError(
                503, "disk_full", "the server has no room for uploads", {"Retry-After": "30"}
            ) from error
        raise


async def _disconnected(request):
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_failures(app):
    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError):
        return _failure(request, error)

    @app.exception_handler(RequestValidationError)
    async def out_of_range(request: Request, error: RequestValidationError):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return _failure(request, RequestError(422, "bad_parameter", f"{place}: {first['msg']}"))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception):
        # The log has its traceback.
        return _failure(request, RequestError(500, "internal", "an error of the server's own"))

    @app.exception_handler(HTTPException)
    async def no_such_endpoint(request: Request, error: HTTPException):
        kind = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        return _failure(
            request, RequestError(error.status_code, kind, str(error.detail), error.headers)
        )


def _failure(request, error):
    request.scope["mvit_tf.failure"] = error.kind
    return JSONResponse(error.to_dict(), error.status, error.headers)


def _add_information(app, service, limits, metrics):
    metadata = service.metadata

    @app.get("/")
    async def information() -> ServerInformation:
        """What is served here."""
        return ServerInformation(
            model=metadata.model_name,
            num_classes=len(metadata.class_names),
            frames_per_clip=metadata.sampling.num_frames,
            clips_per_video=metadata.num_clips,
            image=metadata.image,
            multi_label=metadata.multi_label,
            max_upload=limits.max_upload,
            time_limit=limits.time_limit,
            endpoints=_ENDPOINTS,
        )

    @app.get("/livez", response_class=PlainTextResponse)
    async def live() -> str:
        """Answers as long as the process does."""
        return "ok"

    @app.get("/healthz")
    @app.get("/readyz")
    async def ready() -> JSONResponse:
        """Whether requests are taken on."""
        return JSONResponse({"live": True, "ready": service.ready}, 200 if service.ready else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def counters() -> Response:
        """Counters for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")
