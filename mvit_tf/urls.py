"""Paths that may be URLs: told apart, joined, and shown without the secrets in them.

Nothing here opens anything, or imports more than the standard library.
"""

import os
import re
import urllib.parse

# What videos, lists and class folders are read by (`mvit_tf.data.remote`).
READABLE = ("http", "https", "s3", "gs")
# What a model directory or an export can lie on (`mvit_tf.remote_path`).
WRITABLE = ("gs", "s3")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s\"'<>|\\]+")
_SECRET = re.compile(
    r"^x-(amz|goog|ms)-|sig|token|secret|passw|credential|key|auth|policy", re.IGNORECASE
)


def scheme(path):
    """ "https" of "HTTPS://host/file"; None of a path of this machine."""
    found = _SCHEME.match(os.fspath(path))
    return found[1].lower() if found else None


def is_url(path):
    """Whether a path is a URL."""
    return scheme(path) is not None


def join(folder, path):
    """`os.path.join` where either may be a URL; a URL as `path` stands for itself."""
    if is_url(path) or not is_url(folder):
        return path if is_url(path) else os.path.join(folder, path)
    if scheme(folder) in ("http", "https"):  # Elsewhere these are parts of a name like others.
        path = path.replace("#", "%23").replace("?", "%3F")
    return f"{folder.rstrip('/')}/{path.lstrip('/')}"


def parent(path):
    """`os.path.dirname` of a path or URL, without the query of the latter."""
    if not is_url(path):
        return os.path.dirname(path)
    return without_query(path).rpartition("/")[0]


def without_query(path):
    """A web address without what follows its path; any other path as it is."""
    web = scheme(path) in ("http", "https")
    return re.split(r"[?#]", path, maxsplit=1)[0] if web else path


def absolute(path):
    """`os.path.abspath`; a URL is absolute as it stands."""
    return path if is_url(path) else os.path.abspath(path)


def without_secrets(text):
    """The text with every URL in it rid of user names, passwords and signed parts of the query.

    A text that is a URL may hold spaces and quotes; within others they end it.
    """
    if is_url(text) and "\n" not in text and ": " not in text:
        return _shown(text)
    return _URL_IN_TEXT.sub(lambda found: _shown(found[0]), text) if "://" in text else text


def _shown(text):
    url = text.rstrip(".,:;)]}")  # Those are of the sentence.
    start, _, rest = url.partition("://")
    cut = re.search(r"[/?#]", rest)
    host, tail = (rest, "") if cut is None else (rest[: cut.start()], rest[cut.start() :])
    address, *queries = re.split("(?=[?#])", tail)
    query = "".join(map(_shown_fields, queries))
    return f"{start}://{host.rpartition('@')[2]}{address}{query}{text[len(url) :]}"


def _shown_fields(query):
    """A query or fragment with its mark, without the fields that are secret."""
    fields = [field for field in query[1:].split("&") if not _SECRET.search(_name(field))]
    return query[0] + "&".join(fields) if any(fields) else ""


def _name(field):
    return urllib.parse.unquote(field.partition("=")[0])
