"""Paths that may be URLs."""

import pytest

from mvit_tf.urls import absolute, is_url, join, parent, without_secrets


def test_only_a_scheme_with_two_slashes_makes_a_url():
    assert is_url("s3://bucket/a") and is_url("HTTPS://host/a")
    assert not any(map(is_url, ("/a/b", "a:b", "C:\\a", "C:/a", "gs:/bucket", "../a://b")))


@pytest.mark.parametrize(
    ("folder", "path", "joined"),
    [
        ("/lists", "a.mp4", "/lists/a.mp4"),
        ("/lists", "s3://b/a.mp4", "s3://b/a.mp4"),
        ("s3://b/lists", "x/a #1.mp4", "s3://b/lists/x/a #1.mp4"),
        ("http://h/lists/", "x/a #1?.mp4", "http://h/lists/x/a %231%3F.mp4"),
    ],
)
def test_relative_paths_start_at_a_folder_or_url(folder, path, joined):
    assert join(folder, path) == joined


def test_parents_of_web_addresses_leave_the_query_out():
    assert parent("https://h/a/list.csv?token=x/y") == "https://h/a"
    assert parent("s3://b/a?/list.csv") == "s3://b/a?"
    assert parent("/a/b") == "/a" and absolute("gs://b/../a") == "gs://b/../a"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pa@ss@h:80/a.mp4", "https://h:80/a.mp4"),
        (
            "https://h/a?X-Amz-Credential=k&X-Amz-Signature=s&X-Amz-Expires=9",
            "https://h/a",
        ),
        ("https://h/a?id=3&access%5Ftoken=s&v=2", "https://h/a?id=3&v=2"),
        ("https://h/a?id=3", "https://h/a?id=3"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
    ],
)
def test_secrets_are_taken_out_of_urls_in_text(url, shown):
    assert without_secrets(f'{{"path": "{url}", "x": 1}}') == f'{{"path": "{shown}", "x": 1}}'
    assert without_secrets(f"{url}: no such file") == f"{shown}: no such file"
