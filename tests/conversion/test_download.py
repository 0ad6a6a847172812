"""Downloads against a server of this machine: whole and right, or an error and nothing left."""

import collections
import hashlib
import os
import subprocess
import sys

import pytest

from mvit_tf.conversion import download as download_module
from mvit_tf.conversion.download import download
from mvit_tf.errors import UserError
from tests.conversion.loopback import Page, serve

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several reads
SHA256 = hashlib.sha256(CONTENT).hexdigest()

LIMITED = """
import resource, sys
from mvit_tf.conversion.download import download
from mvit_tf.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    download(sys.argv[1], sys.argv[2])
except UserError as error:
    print(error)
"""


def fetch(page, folder, name="weights.pth", **options):
    with serve({name: page}) as address:
        download(f"{address}/{name}", folder / name, patience=0, **options)


def refusal(page, folder, **options):
    """The message of a download that fails, and leaves nothing behind."""
    with pytest.raises(UserError) as caught:
        fetch(page, folder, **options)
    assert list(folder.iterdir()) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("sha256", [None, SHA256, SHA256[:8]])
def test_a_file_arrives_whole(tmp_path, sha256):
    page = Page(CONTENT)
    fetch(page, tmp_path / "new" / "folder", sha256=sha256)
    assert (tmp_path / "new" / "folder" / "weights.pth").read_bytes() == CONTENT
    assert os.listdir(tmp_path / "new" / "folder") == ["weights.pth"]
    assert page.requests == [None]


def test_a_cut_connection_is_resumed_where_it_was_cut(tmp_path):
    page = Page(CONTENT, cuts=(1_500_000, 4_000_000))
    fetch(page, tmp_path, sha256=SHA256)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert page.requests == [None, "bytes=1500000-", "bytes=4000000-"]


def test_a_server_without_ranges_begins_again(tmp_path):
    page = Page(CONTENT, cuts=(1_500_000,), ranges=False)
    fetch(page, tmp_path, sha256=SHA256)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert page.requests == [None, None]


def test_a_connection_that_keeps_breaking_ends_cleanly(tmp_path):
    page = Page(CONTENT, cuts=(1000,) * 20, ranges=False)
    message = refusal(page, tmp_path)
    assert "5 attempts" in message and f"1000 of {len(CONTENT)} bytes" in message
    assert len(page.requests) == 5


def test_no_server(tmp_path):
    with pytest.raises(UserError, match="could not be fetched in 5 attempts.*refused"):
        download("http://127.0.0.1:9/weights.pth", tmp_path / "weights.pth", patience=0)
    assert list(tmp_path.iterdir()) == []


def test_wrong_checksum(tmp_path):
    message = refusal(Page(CONTENT), tmp_path, sha256="0" * 64)
    assert f"its SHA-256 is {SHA256} and should be {'0' * 64}" in message


def test_web_page_and_missing_file(tmp_path):
    page = Page(b"<html>Sign in</html>", content_type="text/html; charset=utf-8")
    assert "answered with a web page" in refusal(page, tmp_path)
    with serve({}) as address, pytest.raises(UserError, match="answered HTTP 404 Not Found"):
        download(f"{address}/weights.pth", tmp_path / "weights.pth", patience=0)
    page = Page(CONTENT, status=503)
    assert "HTTP 503" in refusal(page, tmp_path)
    assert len(page.requests) == 5


def test_refused_content_names_the_address(tmp_path):
    def check(path):
        raise UserError(f"{path} is empty")

    message = refusal(Page(b""), tmp_path, check=check)
    assert message.startswith("http://127.0.0.1:") and message.endswith("weights.pth is empty")


def test_full_disk_is_seen_before_the_first_byte(tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(
        download_module.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 2**20)
    )
    message = refusal(Page(CONTENT), tmp_path)
    assert "has 1 MiB free and the file needs 5" in message and "KERAS_HOME" in message


def test_a_disk_that_fills_up_leaves_nothing(tmp_path):
    """A real failure of write(), in a process that may write a megabyte to a file."""
    with serve({"weights.pth": Page(CONTENT)}) as address:
        ended = subprocess.run(
            [sys.executable, "-c", LIMITED, f"{address}/weights.pth", tmp_path / "weights.pth"],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
    assert "weights.pth cannot be written (File too large)" in ended.stdout, ended.stderr
    assert list(tmp_path.iterdir()) == []
