"""Presets on the Hugging Face Hub, by its own client: "hf://user/name"."""

import contextlib
import os
from pathlib import Path

from mvit_tf.errors import UserError

PREFIX = "hf://"
_CARD_FILE = "README.md"
_NEEDED = ("metadata.json", "config.json", "model.weights.h5")
_FILES = (
    *_NEEDED,
    "task.json",
    "task.weights.h5",
    "video_converter.json",
    "image_converter.json",
    _CARD_FILE,
)
_CARD = """\
---
library_name: mvit_tf
pipeline_tag: {tag}
---
An [MViT]({paper}) in Keras 3.

    model = mvit_tf.MViT.from_preset("{handle}")
"""
_PAPER = "https://arxiv.org/abs/2104.11227"


def is_hub_handle(preset: str | os.PathLike) -> bool:
    return os.fspath(preset).startswith(PREFIX)


def download_preset(handle: str) -> Path:
    """The folder of a preset of the hub: in the client's cache, brought there where it is not.

    All files are of one commit, and each has the size that the hub says. The weights end in a
    checksum, which is compared when they are loaded. Where the hub refuses or cannot be reached,
    what the cache has of that handle is served, as the client does it.

    Args:
        handle: "hf://user/name", or "hf://user/name@revision".

    Raises:
        UserError: a bad handle, no such repository, a token that is refused, or a hub that cannot
            be reached.
    """
    client = _client()
    repository, revision = _parts(handle)
    with _in_one_line(client, handle):
        folder = client.snapshot_download(repository, revision=revision, allow_patterns=_FILES[:-1])
    return Path(folder)


def upload_preset(handle: str, directory: str | os.PathLike, *, private: bool | None = None):
    """Pushes a preset to the hub, in one commit; the repository is made if it is not there.

    Args:
        handle: "hf://user/name", or "hf://user/name@branch" of a branch that is there.
        directory: of `save_to_preset`. A preset in the repository is replaced; other files in it
            stay. Where there is no README.md in either, one says how to load the model.
        private: whether a new repository is; the account's default when None.

    Raises:
        UserError: no preset in the folder, a bad handle, a token that is missing or refused, or a
            hub that cannot be reached.
    """
    client = _client()
    repository, revision = _parts(handle)
    directory = Path(directory)
    for name in _NEEDED:
        if not (directory / name).is_file():
            raise UserError(f"no preset at {directory}: {name} is missing; see `save_to_preset`")
    files = {name: directory / name for name in _FILES if (directory / name).is_file()}
    api = client.HfApi(library_name="mvit_tf")
    with _in_one_line(client, handle):
        api.create_repo(repository, private=private, exist_ok=True)
        there = set(api.list_repo_files(repository, revision=revision))
        if _CARD_FILE not in there | set(files):
            image = "image_converter.json" in files
            tag = "image-classification" if image else "video-classification"
            files[_CARD_FILE] = _CARD.format(tag=tag, paper=_PAPER, handle=handle).encode()
        stale = there.intersection(_FILES).difference(files, [_CARD_FILE])
        api.create_commit(
            repository,
            [client.CommitOperationDelete(name) for name in sorted(stale)]
            + [client.CommitOperationAdd(name, content) for name, content in files.items()],
            commit_message="Save model using mvit_tf.",
            revision=revision,
        )


def _client():
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(
            "presets of the Hugging Face Hub need an extra: pip install 'mvit_tf[hub]'"
        ) from None
    return huggingface_hub


def _parts(handle):
    """(repository, revision or None)"""
    repository, _, revision = handle.removeprefix(PREFIX).partition("@")
    if not handle.startswith(PREFIX) or len(repository.split("/")) != 2:
        raise UserError(f'a preset of the hub is "hf://user/name", got {handle!r}')
    return repository, revision or None


@contextlib.contextmanager
def _in_one_line(client, handle):
    """Makes one line of whatever the client, or the HTTP library in it, raises."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{handle}: {_reason(client, error)}") from error


def _reason(client, error):
    errors = client.errors
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.HFValidationError):
        return f"no name of a repository: {_first_line(error)}"
    if isinstance(error, errors.GatedRepoError):
        return "its authors must grant access first, on the hub's page of it"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such revision"
    if status == 401 or isinstance(error, errors.LocalTokenNotFoundError):
        return "the hub knows no such repository, or not this token: set HF_TOKEN to one of yours"
    if status == 403:
        return "the token may not do this: set HF_TOKEN to one that may write there"
    if status == 404 or isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository, or a private one: its members set HF_TOKEN"
    if status is not None:
        return f"the hub answered {status}: {_first_line(error)}"
    cause = error.__cause__ or error
    return f"the hub cannot be reached, or broke off: {_first_line(cause)}; try again"


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
