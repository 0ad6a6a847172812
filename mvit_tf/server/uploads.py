"""Bodies of requests into files of a bounded size, within a bounded time."""

import asyncio
import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from mvit_tf.server.errors import ClientGone, RequestError
from mvit_tf.server.limits import MOST_CLIP_BYTES, format_size

# A client that sends nothing for so long has stalled.
_STALLED_SECONDS = 10.0
# A refused client is listened to for so long: most send everything before they read the answer.
_LISTEN_SECONDS = 2.0
_MOST_IMAGES = 256
# Of a broken form it warns by itself; the request's line in the log says that it was refused.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


@contextlib.contextmanager
def upload_folder(parent: str | os.PathLike) -> Iterator[Path]:
    """A folder for what one request sends, removed at the end whatever happens."""
    folder = tempfile.mkdtemp(dir=parent)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def refuse(request: Request, error: RequestError):
    """Raises the error once the client has sent the rest, or for a moment."""
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(_LISTEN_SECONDS):
            async for _ in request.stream():
                pass
    raise error


async def body_parts(request: Request, max_upload: int, deadline: float) -> AsyncIterator[bytes]:
    """The body of a request, as it comes.

    Args:
        request: of the client.
        max_upload: bytes that are taken.
        deadline: by `time.monotonic`.

    Raises:
        RequestError: more bytes, or too slow.
    """
    too_large = RequestError(
        413, "too_large", f"the body is larger than the {format_size(max_upload)} that are taken"
    )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_upload:
        await refuse(request, too_large)
    parts, size = request.stream(), 0
    while True:
        left = min(deadline - time.monotonic(), _STALLED_SECONDS)
        try:
            async with asyncio.timeout(left):
                part = await anext(parts, None)
        except TimeoutError:
            raise RequestError(408, "upload_timeout", "the body came too slowly") from None
        except ClientDisconnect:
            raise ClientGone from None
        if part is None:
            return
        size += len(part)
        if size > max_upload:
            await _listen(parts)
            raise too_large
        yield part


async def _listen(parts):
    with contextlib.suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(_LISTEN_SECONDS):
            async for _ in parts:
                pass


async def save_upload(request: Request, path: Path, max_upload: int, deadline: float):
    """Writes a body, or the one file of a form, to a file.

    Raises:
        RequestError: nothing, too much, too slow, or a form without exactly one file.
    """
    if is_form(request):
        async with _form_files(request, max_upload, deadline, 1) as files:
            await run_in_threadpool(_copy, files[0], path)
    else:
        with open(path, "wb") as file:
            async for part in body_parts(request, max_upload, deadline):
                file.write(part)
    if not path.stat().st_size:
        raise RequestError(400, "empty_body", "the request has no body: send the file itself")


async def save_images(request: Request, folder: Path, max_upload: int, deadline: float) -> int:
    """Writes the files of a form into a folder, as 0.jpg, 1.jpg and so on; returns how many.

    Raises:
        RequestError: see `save_upload`.
    """
    async with _form_files(request, max_upload, deadline, _MOST_IMAGES) as files:
        for number, file in enumerate(files):
            await run_in_threadpool(_copy, file, folder / f"{number}.jpg")
        return len(files)


def is_form(request: Request) -> bool:
    """Whether the body is a form with files."""
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


def read_clip(path: Path) -> np.ndarray:
    """A clip as numpy.save writes it, uint8 (T, H, W, 3); of (H, W, 3), one frame.

    The header is compared with the size of the file before any memory is taken, and nothing is
    unpickled.

    Raises:
        RequestError: it is none.
    """
    with open(path, "rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, columns_first, dtype = read(file)
        except OSError:
            raise
        except Exception:
            # A header is parsed as Python: TokenError, MemoryError, IndexError and more come.
            raise _bad_clip("it is no array as numpy.save writes it") from None
        if dtype != np.uint8 or columns_first:
            raise _bad_clip(f"its type is {dtype}{', in the order of Fortran' * columns_first}")
        if len(shape) not in (3, 4) or shape[-1] != 3 or min(shape) < 1:
            raise _bad_clip(f"its shape is {shape}")
        size = 1
        for length in shape:  # Python's integers: a product of NumPy's could wrap around.
            size *= length
        there = os.fstat(file.fileno()).st_size - file.tell()
        if size != there:
            raise _bad_clip(f"its shape {shape} takes {size} bytes, and {there} came")
        if size > MOST_CLIP_BYTES:
            raise _bad_clip(f"it takes more than {format_size(MOST_CLIP_BYTES)}")
        clip = np.fromfile(file, np.uint8, size).reshape(shape)
    return clip[np.newaxis] if clip.ndim == 3 else clip


def _bad_clip(why):
    return RequestError(
        422, "bad_frames", f"not a clip of frames, uint8 (T, H, W, 3), as numpy.save writes: {why}"
    )


def _copy(upload, path):
    with open(path, "wb") as file:
        shutil.copyfileobj(upload.file, file, 2**20)


class _FormParser(MultiPartParser):
    # Starlette's own 1 MB of each of 256 files would be held in memory for every request.
    spool_max_size = 2**14


@contextlib.asynccontextmanager
async def _form_files(request, max_upload, deadline, most):
    parts = body_parts(request, max_upload, deadline)
    parser = _FormParser(request.headers, parts, max_files=most, max_fields=16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        await _listen(parts)
        raise RequestError(400, "bad_form", f"the form cannot be read: {error.message}") from None
    except (KeyError, ValueError, UnicodeError):
        await _listen(parts)
        raise RequestError(400, "bad_form", "the form cannot be read") from None
    try:
        files = [value for _, value in form.multi_items() if not isinstance(value, str)]
        if not files:
            raise RequestError(400, "bad_form", "the form has no file in it")
        yield files
    finally:
        await form.close()
