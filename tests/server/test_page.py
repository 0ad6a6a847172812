"""The page of `mvit web` in a real browser."""

import json
import os
import shutil
import time

import pytest

for package in ("gradio", "selenium"):
    pytest.importorskip(package, reason="needs the extras `web` and `test-web`")

from mvit_tf.data.moving_shapes import MovingShapes, write_moving_shapes  # noqa: E402
from mvit_tf.server.page import build_page, page_application, prepare_gradio  # noqa: E402
from mvit_tf.server.report import VideoReporter  # noqa: E402
from mvit_tf.server.running import address_of, listening_socket  # noqa: E402
from tests.server.page_parts import stand_in  # noqa: E402
from tests.server.running_server import METADATA, MeanColour, served  # noqa: E402

_CHROMIUM = shutil.which("chromium")
_DRIVER = shutil.which("chromedriver")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--window-size=1100,1250",
    # Whatever the page asks of another machine fails.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
_PATIENCE = 120

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (_CHROMIUM and _DRIVER), reason="needs Debian's chromium and chromium-driver"
    ),
]


@pytest.fixture
def browser(tmp_path):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = _CHROMIUM
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(_DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def videos(tmp_path):
    shapes = MovingShapes(num_frames=48, height=120, width=160)
    write_moving_shapes(tmp_path / "videos", videos_per_class=1, seed=0, shapes=shapes)
    return sorted((tmp_path / "videos").rglob("*.mp4"))


@pytest.fixture
def url(tmp_path, videos, monkeypatch):
    stand_in(monkeypatch)
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "")
    prepare_gradio(tmp_path / "gradio")
    predictor = MeanColour()
    predictor.model = "a model"
    reporter = VideoReporter(predictor, tmp_path, 60)
    page = build_page(reporter, METADATA, 200_000_000, videos[1:4])
    app = page_application(page, 200_000_000)
    with listening_socket("127.0.0.1", 0) as listener, served(app, listener):
        yield address_of(listener)


def wait_for(what, browser):
    """What a function gives, once it gives something."""
    from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        try:
            if found := what():
                return found
        except (NoSuchElementException, StaleElementReferenceException):
            pass
        time.sleep(0.2)
    raise AssertionError(browser.find_element("css selector", "body").text)


def open_and_upload(browser, url, path):
    browser.get(url)
    upload = wait_for(lambda: browser.find_element("css selector", "input[type=file]"), browser)
    upload.send_keys(os.fspath(path))


def status(browser):
    return browser.find_element("css selector", "#status textarea").get_property("value")


def shown_width(browser, element):
    """Pixels across of the picture in an element; 0 before it has come."""
    picture = browser.find_element("css selector", f"#{element} img")
    return browser.execute_script("return arguments[0].naturalWidth", picture)


def addresses_asked(browser):
    entries = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        entry["params"]["request"]["url"]
        for entry in entries
        if entry["method"] == "Network.requestWillBeSent"
    ]


def test_upload_predict_look_and_a_broken_file(browser, url, videos, tmp_path):
    open_and_upload(browser, url, videos[0])
    wait_for(lambda: status(browser) == "160x120: 2 clips of 4 frames", browser)
    wait_for(lambda: shown_width(browser, "timeline") == 600, browser)
    wait_for(lambda: shown_width(browser, "heat") == 4 * 160, browser)
    assert shown_width(browser, "frames") == 160
    assert len(browser.find_elements("css selector", "#frames .grid-container img")) == 4
    classes = browser.find_element("css selector", "#classes").text
    assert all(name in classes for name in METADATA.class_names)
    browser.save_screenshot(os.fspath(tmp_path / "page.png"))

    wait_for(lambda: shown_width(browser, "examples") == 160, browser)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(videos[0].read_bytes()[:500])
    open_and_upload(browser, url, broken)
    wait_for(lambda: status(browser).startswith("Error: not a video that can be"), browser)
    browser.save_screenshot(os.fspath(tmp_path / "broken.png"))

    browser.find_elements("css selector", "#examples button.thumbnail-item")[1].click()
    wait_for(lambda: status(browser) == "160x120: 2 clips of 4 frames", browser)

    asked = addresses_asked(browser)
    assert any(address.startswith(url) for address in asked)
    assert [a for a in asked if not a.startswith((url, "data:", "blob:", "chrome"))] == []
