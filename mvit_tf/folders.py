"""Folders to write into, made or refused in one line."""

import os
from pathlib import Path

from mvit_tf.errors import UserError
from mvit_tf.remote_path import RemotePath


def check_folder(path: Path | RemotePath):
    """Refuses a folder that cannot be made, as far as that is known without making it.

    Raises:
        UserError: something above it is no folder, or not writable.
    """
    if isinstance(path, RemotePath):
        return
    above = next(folder for folder in (path, *path.absolute().parents) if os.path.lexists(folder))
    if not above.is_dir():
        raise UserError(f"{path} cannot be a folder: {above} is a file")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be written: no right to write in {above}")


def make_folder(path: Path | RemotePath):
    """Makes a folder and those above it, where they are not there.

    Raises:
        UserError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if isinstance(path, RemotePath):  # `reached` tells what a store refuses.
            raise
        raise UserError(f"{path} cannot be made a folder: {error.strerror or error}") from None
