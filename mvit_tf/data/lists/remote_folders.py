"""Class folders of an object store, which knows no folders: the parts of its files' names."""

import os

from mvit_tf.data.lists.class_names import one_spelling
from mvit_tf.data.lists.entries import is_image, is_video
from mvit_tf.data.remote import files_under
from mvit_tf.errors import UserError
from mvit_tf.urls import join


class RemoteFolders:
    """What lies under a URL, listed once, by the rules of `class_folders.read_class_folders`.

    Args:
        root: str, URL of the folder of class folders.

    Raises:
        UserError: it cannot be listed.
    """

    def __init__(self, root):
        self._root = root
        try:
            files = files_under(root)
        except OSError as error:
            raise UserError(f"{root} cannot be listed: {error.strerror}") from None
        start = len(join(root, ""))
        parts = [path[start:].split("/") for path in files]
        self._files = [part for part in parts if not any(_hidden(name) for name in part)]

    def class_folders(self):
        """(class name -> name of its folder, [(path, reason)] of what is in none)."""
        folders, passed_over = {}, []
        for first, *rest in self._files:
            if rest:
                folders.setdefault(one_spelling(first), first)
            else:
                passed_over.append((join(self._root, first), "not in a class folder"))
        return folders, passed_over

    def videos(self, folder, nested, images, passed_over):
        """The URLs of the videos, or of the images, of a class folder, sorted by name.

        Args:
            folder: str, its name.
            nested: bool. Take the videos of folders within it too.
            images: bool. Take images instead.
            passed_over: list, to which (path, reason) of all else is added.
        """
        videos, skipped = [], {}
        is_wanted = is_image if images else is_video
        for first, *rest in self._files:
            if first != folder or not rest:
                continue
            path = join(self._root, "/".join([first, *rest]))
            extension = os.path.splitext(rest[-1])[1]
            if len(rest) > 1 and not nested:
                skipped[join(self._root, f"{first}/{rest[0]}")] = "nested folder"
            elif is_wanted(rest[-1]):
                videos.append(path)
            else:
                skipped[path] = f"unknown extension {extension}" if extension else "no extension"
        passed_over += skipped.items()
        return videos


def _hidden(name):
    # An empty name is that of an object which some tools make to stand for a folder.
    return not name or name.startswith(".")
