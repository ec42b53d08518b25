"""The official JavaScript client in a real browser."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.api.conftest import Server, data_uri

from hidream_edit.testing import NullEngine
from hidream_edit.wiring.dev_tls import made

HERE = Path(__file__).parent / "js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTED = ("fal.run", "queue.fal.run", "rest.fal.ai", "v3.fal.media")

pytestmark = pytest.mark.skipif(
    not os.environ.get("CI") and (CHROMIUM is None or shutil.which("npm") is None),
    reason="neither Chromium nor Node is here; CI has both",
)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Origin of a page, not the server's, that has the bundled client."""
    folder = tmp_path_factory.mktemp("site")
    esbuild = [str(HERE / "node_modules" / ".bin" / "esbuild"), str(HERE / "browser.mjs"), "--bundle"]
    subprocess.run([*esbuild, f"--outfile={folder / 'page.js'}", "--log-level=error"], check=True)
    (folder / "index.html").write_text("<!doctype html><title>app</title><script src=page.js></script>")
    handler = lambda *args: _Quiet(*args, directory=str(folder))  # noqa: E731
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/index.html"
        httpd.shutdown()
        thread.join()


@contextmanager
def page_of(url: str, *options: str) -> Iterator[Any]:
    """A page in a fresh browser; what it logs as an error fails the test."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *options])
        page = browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda problem: problems.append(str(problem)))
        page.goto(url)
        yield page
        browser.close()
    assert problems == []


def test_a_page_of_another_origin_edits_through_the_proxy_door(site: str, tmp_path: Path) -> None:
    server = Server(tmp_path, engine=NullEngine(seconds_per_step=0.03))
    try:
        with page_of(site) as page:
            seen = page.evaluate("([origin, picture]) => throughProxy(origin, picture)", [server.url, data_uri()])
    finally:
        server.close()
    assert (seen["width"], seen["requestId"], seen["streamed"]) == (6, 36, 1)
    assert seen["updates"][-1] == "COMPLETED"
    assert seen["events"] > 1
    assert seen["invalid"] == ["ValidationError", 422, 36]


def test_a_page_streams_with_a_token_and_edits_in_realtime_under_the_hosted_names(site: str, tmp_path: Path) -> None:
    server = Server(tmp_path, engine=NullEngine(seconds_per_step=0.03), tls=made(tmp_path, ()))
    led = ",".join(f"MAP {name}:443 127.0.0.1:{server.port}" for name in HOSTED)
    try:
        with page_of(site, f"--host-resolver-rules={led}", "--ignore-certificate-errors") as page:
            seen = page.evaluate("(picture) => throughNames(picture)", data_uri())
    finally:
        server.close()
    assert seen == {"streamed": 1, "answers": [[1, 6], [2, 6], [3, 6]]}
