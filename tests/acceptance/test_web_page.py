"""The web page in a real browser, against a real server. Screenshots of fixed steps are kept in out/screenshots."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.acceptance.conftest import APP, Process, wait_for
from tests.acceptance.test_serve import an_input

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "examples" / "photo.jpg"
SHOTS = ROOT / "out" / "screenshots"
AXE = Path(__file__).parent / "js" / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SECONDS_MAX = 60_000
SLOW = {"HIDREAM_EDIT_NULL_SECONDS_PER_STEP": "0.1"}

pytestmark = pytest.mark.skipif(
    not os.environ.get("CI") and (CHROMIUM is None or not AXE.exists()),
    reason="neither Chromium nor Node is here; CI has both",
)

Start = Callable[..., Process]


@contextmanager
def browser_page(server: Process, path: str = "/", *, may_fail: bool = False, **options: Any) -> Iterator[Any]:
    """The page in a fresh browser. An error in it fails the test, and so does any request to another host."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(**{"viewport": {"width": 1360, "height": 860}} | options)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.url)
        page = context.new_page()
        page.set_default_timeout(SECONDS_MAX)
        problems: list[str] = []
        hosts: set[str] = set()
        page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.goto(server.url + path)
        yield page
        browser.close()
    assert hosts - {""} == {urlsplit(server.url).netloc}
    assert may_fail or problems == []


def shot(page: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=True)


def ask(page: Any, words: str, **fields: str) -> None:
    """Choose the photo, say what should change, and send it off."""
    page.set_input_files("#pick", str(PHOTO))
    page.fill("#instruction", words)
    if fields:
        page.wait_for_selector("#field-num_inference_steps", state="attached")
        page.evaluate("document.getElementById('advanced').open = true")
        for name, value in fields.items():
            page.fill(f"#field-{name}", value)
        page.evaluate("document.getElementById('advanced').open = false")
    page.click("#run")


def violations(page: Any) -> list[str]:
    """Serious findings of the accessibility checker."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in found if one["impact"] in ("serious", "critical")
    ]


def until(page: Any, expression: str, argument: object = None) -> None:
    """Wait for a condition in the page, whose policy forbids the browser driver's own way of waiting."""
    deadline = time.monotonic() + SECONDS_MAX / 1000
    while not page.evaluate(expression, argument):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(30)


def width_needed(page: Any) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth"))


def test_a_person_edits_a_picture_without_reading_anything(start: Start) -> None:
    server = start("--model", "mini")
    server.wait_until_ready()
    with browser_page(server) as page:
        page.wait_for_selector("#examples button")
        assert page.inner_text("#model") == "mini on cpu"
        assert page.is_disabled("#run")
        shot(page, "1-first-run")
        assert violations(page) == []
        ask(page, "make it a night scene", num_inference_steps="16")  # long enough to be seen on any machine
        page.wait_for_selector(".preview")
        shot(page, "2-while-it-runs")
        page.wait_for_selector("#result:not([hidden])")
        until(page, "document.querySelector('before-after .after').complete")
        slider = page.get_by_label("How much of the picture before the edit is shown")
        slider.focus()
        for _ in range(20):
            page.keyboard.press("ArrowRight")
        assert page.evaluate("document.querySelector('before-after').style.getPropertyValue('--at')") == "60%"
        page.get_by_role("button", name="Larger").click()
        assert page.evaluate("document.querySelector('before-after').style.getPropertyValue('--zoom')") == "1.5"
        page.get_by_role("button", name="Smaller").click()
        shot(page, "3-result")
        assert "600 × 400" in page.inner_text("#facts")
        with page.expect_download() as download:
            page.click("#download")
        assert download.value.suggested_filename.endswith(".jpeg")
        page.click("text=The same request as code")
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowRight")
        assert "fal.subscribe" in page.inner_text("#snippet")
        page.click("#copy-code")
        assert "make it a night scene" in page.evaluate("navigator.clipboard.readText()")
        page.click("#copy-link")
        assert httpx.get(page.evaluate("navigator.clipboard.readText()")).headers["content-type"] == "image/jpeg"
        assert violations(page) == []
        before = page.inner_text("#facts")
        page.click("#again")
        until(page, "before => document.getElementById('facts').innerText !== before", before)
        page.click("#use")
        assert page.is_disabled("#run")  # the words are new
        page.fill("#instruction", "make it black and white")
        page.click("#run")
        until(page, "document.querySelectorAll('#history li').length === 3")
        assert page.inner_text("#history li:first-child .words") == "make it black and white"
        shot(page, "4-history")


def test_the_snippets_of_a_result_do_what_they_say(start: Start) -> None:
    server = start()
    server.wait_until_ready()
    with browser_page(server) as page:
        ask(page, "anything")
        page.wait_for_selector("#result:not([hidden])")
        page.click("text=The same request as code")
        page.click("#tab-python")
        code = page.inner_text("#snippet")
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert httpx.get(printed.strip()).headers["content-type"] == "image/jpeg"


def test_a_request_is_cancelled(start: Start) -> None:
    server = start(**SLOW)
    server.wait_until_ready()
    with browser_page(server, may_fail=True) as page:
        ask(page, "anything", num_inference_steps="50")
        until(page, "/Step [1-9]/.test(document.getElementById('progress-text').innerText)")
        page.click("#cancel")
        page.wait_for_selector("text=Cancelled.")
        assert page.is_enabled("#run")
        assert page.inner_text("#history li:first-child .thumb") == "cancelled"


def test_a_failed_edit_says_what_to_do(start: Start) -> None:
    server = start()
    server.wait_until_ready()
    with browser_page(server, may_fail=True) as page:
        ask(page, "fail")
        page.wait_for_selector("#problem:not([hidden])")
        assert "The edit failed." in page.inner_text("#problem")
        shot(page, "5-problem")
        assert violations(page) == []
        page.fill("#instruction", "anything")
        page.click("text=Try again")
        page.wait_for_selector("#result:not([hidden])")
        assert page.is_hidden("#problem")


def test_a_file_that_is_no_picture_is_refused_in_words(start: Start, tmp_path: Path) -> None:
    server = start()
    server.wait_until_ready()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "fake.png").write_text("not a picture")
    with browser_page(server, may_fail=True) as page:
        page.set_input_files("#pick", str(tmp_path / "notes.txt"))
        assert "notes.txt is not a picture." in page.inner_text("#problem")
        page.set_input_files("#pick", str(tmp_path / "fake.png"))
        page.fill("#instruction", "anything")
        page.click("#run")
        page.wait_for_selector("text=The server did not take this.")


def test_two_pictures_are_shown_one_at_a_time(start: Start) -> None:
    server = start()
    server.wait_until_ready()
    with browser_page(server) as page:
        ask(page, "anything", num_images="2")
        page.wait_for_selector("#strip button:nth-child(2)")
        first = page.get_attribute("#download", "href")
        page.click("#strip button:nth-child(2)")
        assert page.get_attribute("#download", "href") != first
        assert page.get_attribute("#strip button:nth-child(2)", "aria-pressed") == "true"
        shot(page, "6-two-pictures")


def test_a_reload_in_the_middle_finds_the_running_request_again(start: Start) -> None:
    server = start(**SLOW)
    server.wait_until_ready()
    with browser_page(server) as page:
        ask(page, "anything", num_inference_steps="30")
        until(page, "/Step [1-9]/.test(document.getElementById('progress-text').innerText)")
        page.reload()
        until(page, "/Step [1-9]/.test(document.getElementById('progress-text').innerText)")
        assert page.input_value("#instruction") == "anything"
        page.wait_for_selector("before-after .after")  # the source was found again, too
        assert len(page.query_selector_all("#history li")) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(start: Start, scheme: str) -> None:
    server = start()
    server.wait_until_ready()
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True, "color_scheme": scheme}
    with browser_page(server, **phone) as page:
        page.wait_for_selector("#examples button")
        assert page.is_visible("text=Take a photo")
        assert width_needed(page) <= 360
        ask(page, "anything")
        page.wait_for_selector("#result:not([hidden])")
        assert width_needed(page) <= 360
        shot(page, f"7-phone-{scheme}")
        assert violations(page) == []


def test_a_picture_can_be_pasted(start: Start) -> None:
    server = start()
    server.wait_until_ready()
    with browser_page(server) as page:
        page.evaluate(
            """async () => {
              const picture = await (await fetch('/playground/sample.jpg')).blob();
              const file = new File([picture], 'a.jpg', {type: 'image/jpeg'});
              const data = new DataTransfer();
              data.items.add(file);
              document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}));
            }"""
        )
        page.wait_for_selector("#source:not([hidden])")


def test_a_server_with_keys_asks_for_one_and_keeps_it_in_the_tab(start: Start) -> None:
    server = start()
    server.wait_until_ready()
    credential = _new_key(server, "use")
    with browser_page(server, may_fail=True) as page:
        page.wait_for_selector("text=This server asks for a key.")
        page.click("text=Enter a key")
        assert violations(page) == []
        page.fill("#key", credential)
        page.click("text=Use it")
        page.wait_for_selector("#problem", state="hidden")
        ask(page, "anything")
        page.wait_for_selector("#result:not([hidden])")
        assert credential not in json.dumps(page.evaluate("({...localStorage})"))
        assert credential in json.dumps(page.evaluate("({...sessionStorage})"))


def test_private_files_are_seen_by_their_owner_and_found_again_after_a_reload(start: Start) -> None:
    server = start(HIDREAM_EDIT_SERVER_PRIVATE_FILES="true")
    server.wait_until_ready()
    credential = _new_key(server, "use")
    loaded = "document.querySelector('before-after img')?.naturalWidth > 0"
    with browser_page(server, may_fail=True) as page:
        page.click("text=Enter a key")
        page.fill("#key", credential)
        page.click("text=Use it")
        ask(page, "anything")
        page.wait_for_selector("#result:not([hidden])")
        until(page, loaded)
        assert "signature=" in page.get_attribute("before-after img", "src")
        page.reload()
        page.wait_for_selector("#result:not([hidden])")
        until(page, loaded)
        until(page, "document.querySelector('#history img')?.naturalWidth > 0")


def test_earlier_edits_are_found_and_come_a_page_at_a_time(start: Start) -> None:
    server = start()
    server.wait_until_ready()
    for number in range(30):
        server.client.post(APP, json=an_input(instruction=f"edit number {number}"))
    with browser_page(server) as page:
        page.wait_for_selector("#history li")
        assert len(page.query_selector_all("#history li")) == 24
        page.click("#more")
        until(page, "document.querySelectorAll('#history li').length === 30")
        assert page.is_hidden("#more")
        page.fill("#search", "NUMBER 17")
        until(page, "document.querySelectorAll('#history li').length === 1")
        page.click("#history li a")
        page.wait_for_selector("#result:not([hidden])")
        page.fill("#search", "no such words")
        page.wait_for_selector("text=Nothing found.")


def test_the_owner_sees_the_whole_server_and_delivers_a_webhook_again(start: Start) -> None:
    server = start()
    server.wait_until_ready()
    sent = server.client.post(f"/queue{APP}?fal_webhook=https://hooks.example/secret-path?token=x", json=an_input())
    wait_for(lambda: server.client.get(f"{APP}/requests/{sent.json()['request_id']}/status").status_code == 200)
    with browser_page(server, "/admin") as page:
        page.wait_for_selector("#runners td")
        assert "null" in page.inner_text("#runners")
        assert "hooks.example" in page.inner_text("#deliveries")
        assert "secret-path" not in page.content()
        page.click("text=Deliver again")
        shot(page, "8-admin")
        assert violations(page) == []


def test_the_owners_page_is_for_the_owner(start: Start) -> None:
    server = start()
    server.wait_until_ready()
    credential, plain = _new_key(server, "admin"), _new_key(server, "use")
    with browser_page(server, "/admin", may_fail=True) as page:
        for key in (plain, credential):
            page.wait_for_selector("text=This page asks for a key with the scope admin.")
            page.click("#problem >> text=Enter a key")
            page.fill("#key", key)
            page.click("text=Use it")
        page.wait_for_selector("#keys td")
        assert "admin" in page.inner_text("#keys")


def _new_key(server: Process, scope: str) -> str:
    command = [sys.executable, "-m", "hidream_edit", "keys", "create", "somebody", "--scope", scope]
    credential = subprocess.check_output([*command, "--data", str(server.folder)], text=True).strip()
    wait_for(lambda: server.client.get("/v1/requests").status_code == 401)
    return credential
