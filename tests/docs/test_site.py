"""The documentation builds as a site, with no broken link, anchor or name."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mvit_tf

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_site_builds_and_holds_every_public_name(tmp_path):
    for package in ("mkdocs", "material", "mkdocstrings"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("needs the extra `docs`")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
    for name in {*mvit_tf.__all__} - {"layers"}:
        assert re.search(rf'id="mvit_tf\.[\w.]*{name}"', page), name


def test_every_page_is_in_the_contents():
    contents = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert pages == set(re.findall(r"\b(\w+\.md)", contents))
