"""Both clients against the whole server, whose engine inverts pictures."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from contextlib import aclosing
from pathlib import Path

import pytest
from PIL import Image
from tests.api.conftest import Server, data_uri, picture_bytes

from hidream_edit import AsyncClient, Client
from hidream_edit.client import (
    Cancelled,
    Done,
    Edit,
    EditFailed,
    InputRefused,
    NotAllowed,
    Preview,
    Queued,
    RequestNotFound,
    Running,
    Submitted,
    TimedOut,
)
from hidream_edit.client.sources import PictureLike
from hidream_edit.pictures.encode import read_about

ORANGE, INVERTED = (200, 100, 0), (55, 155, 255)


def as_path(folder: Path) -> Path:
    (folder / "photo.png").write_bytes(picture_bytes(ORANGE))
    return folder / "photo.png"


def test_an_edit_is_one_call(client: Client, tmp_path: Path) -> None:
    edit = client.edit(as_path(tmp_path), "make it night", output_format="png", seed=5)
    assert edit.image.getpixel((0, 0)) == INVERTED
    assert edit.image.size == (6, 4)
    assert (edit.seed, edit.prompt, len(edit.images), len(edit.urls)) == (5, "make it night", 1, 1)
    assert edit.timings["inference"] >= 0
    assert edit.source is not None
    assert edit.source.getpixel((0, 0)) == ORANGE


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "PIL", "data URI", "own address"])
def test_a_picture_may_come_in_any_form(client: Client, tmp_path: Path, kind: str) -> None:
    path = as_path(tmp_path)
    forms: dict[str, PictureLike] = {
        "path": path,
        "text": str(path),
        "bytes": picture_bytes(ORANGE),
        "PIL": Image.new("RGB", (6, 4), ORANGE),
        "data URI": data_uri(picture_bytes(ORANGE)),
    }
    picture = client.upload(path) if kind == "own address" else forms[kind]
    edit = client.edit(picture, "make it night", output_format="png")
    assert edit.image.getpixel((0, 0)) == INVERTED


def test_a_turned_photograph_is_sent_upright(client: Client) -> None:
    turned = Image.new("RGB", (6, 4), ORANGE)
    turned.getexif()[0x0112] = 6
    edit = client.edit(turned, "make it night", output_format="png")
    assert edit.image.size == (4, 6)
    assert edit.source is not None
    assert edit.source.size == (4, 6)


def test_every_field_reaches_the_edit(client: Client) -> None:
    edit = client.edit(
        picture_bytes(), "make it night", description="a night", negative_prompt="day", steps=2, guidance_scale=2.5,
        image_guidance_scale=1.5, num_images=2, seed=9, output_format="png", priority="low", start_timeout=60,
    )  # fmt: skip
    settings = read_about(edit.files[0])["settings"]
    assert isinstance(settings, dict)
    assert settings | {
        "target_image_description": "a night", "negative_prompt": "day", "num_inference_steps": 2,
        "guidance_scale": 2.5, "image_guidance_scale": 1.5, "num_images": 2, "seed": 9,
    } == settings  # fmt: skip
    assert len(edit.images) == 2


def test_results_inside_the_answer_are_read_too(client: Client) -> None:
    edit = client.edit(picture_bytes(ORANGE), "make it night", output_format="png", sync_mode=True)
    assert edit.urls[0].startswith("data:image/png")
    assert edit.image.getpixel((0, 0)) == INVERTED


def test_a_field_that_the_server_does_not_know_is_told_in_the_warnings(client: Client) -> None:
    edit = client.edit(picture_bytes(), "make it night", stepz=3)  # type: ignore[call-arg]
    assert any("stepz" in warning for warning in edit.warnings)


def test_subscribing_tells_the_request_and_each_change(slow_client: Client) -> None:
    told: list[object] = []
    slow_client.subscribe(picture_bytes(), "make it night", steps=20, on_queued=told.append, on_update=told.append)
    assert isinstance(told[0], Submitted)
    steps = [status.step for status in told if isinstance(status, Running) and status.step]
    assert steps == sorted(steps)
    assert steps[-1][1] == 20
    assert isinstance(told[-1], Done)
    assert told[-1].ok


def test_submitting_goes_on_at_once_and_the_result_is_fetched_later(client: Client, server: Server) -> None:
    submitted = client.submit(picture_bytes(ORANGE), "make it night", output_format="png")
    assert submitted.status_url == f"{server.url}/queue/fal-ai/hidream-e1-full/requests/{submitted.request_id}/status"
    edit = client.result(submitted)
    assert edit.request_id == submitted.request_id
    assert edit.source is not None
    by_id = client.result(submitted.request_id)
    assert by_id.files == edit.files
    assert by_id.source is None


def test_a_waiting_request_says_how_many_come_before(idle_server: Server) -> None:
    with Client(idle_server.url) as client:
        requests = [client.submit(picture_bytes(), "make it night") for _ in range(2)]
        assert client.status(requests[1]) == Queued(requests[1].request_id, 1)


def test_a_cancelled_request_never_runs_and_says_so(idle_server: Server) -> None:
    with Client(idle_server.url) as client:
        submitted = client.submit(picture_bytes(), "make it night")
        assert client.cancel(submitted)
        status = client.status(submitted)
        assert isinstance(status, Done)
        assert not status.ok
        with pytest.raises(Cancelled) as caught:
            client.result(submitted)
        assert caught.value.request_id == submitted.request_id


def test_cancelling_what_has_ended_answers_false(client: Client) -> None:
    submitted = client.submit(picture_bytes(), "make it night")
    client.result(submitted)
    assert not client.cancel(submitted.request_id)


def test_an_edit_that_takes_too_long_is_cancelled(slow_server: Server) -> None:
    with Client(slow_server.url, timeout=0.2) as client, pytest.raises(TimedOut, match=r"0\.2 seconds") as caught:
        client.edit(picture_bytes(), "make it night")
    assert slow_server.result(str(caught.value.request_id)).status_code == 499


def test_an_edit_that_does_not_start_in_time_is_timed_out(idle_server: Server) -> None:
    with Client(idle_server.url) as client, pytest.raises(TimedOut, match="start_timeout"):
        client.edit(picture_bytes(), "make it night", start_timeout=0.2)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ZeroDivisionError])
def test_whoever_stops_waiting_takes_the_edit_back(slow_server: Server, interruption: type[BaseException]) -> None:
    ids: list[str] = []

    def interrupt(_: object) -> None:
        raise interruption

    with Client(slow_server.url) as client, pytest.raises(interruption):
        client.subscribe(
            picture_bytes(), "make it night", on_queued=lambda one: ids.append(one.request_id), on_update=interrupt
        )
    assert slow_server.result(ids[0]).status_code == 499


def test_a_stream_shows_previews_and_ends_with_the_edit(slow_client: Client) -> None:
    *previews, edit = slow_client.stream(picture_bytes(ORANGE), "make it night", output_format="png", seed=3)
    assert previews
    assert all(isinstance(one, Preview) and one.image.size == (1, 1) and one.seed == 3 for one in previews)
    assert isinstance(edit, Edit)
    assert edit.image.getpixel((0, 0)) == INVERTED
    assert edit.source is not None


def test_leaving_a_stream_cancels_the_edit(slow_server: Server) -> None:
    with Client(slow_server.url) as client:
        for told in client.stream(picture_bytes(), "make it night"):
            assert isinstance(told, Preview)
            break
        assert slow_server.result(told.request_id).status_code == 499


def test_a_stream_that_fails_raises_the_error_by_its_name(client: Client) -> None:
    with pytest.raises(EditFailed) as caught:
        list(client.stream(picture_bytes(), "fail"))
    assert caught.value.kind == "internal_server_error"


def test_a_stream_of_wrong_input_is_refused_before_it_begins(client: Client) -> None:
    with pytest.raises(InputRefused) as caught:
        list(client.stream(picture_bytes(), "make it night", num_images=9))
    assert caught.value.field == "num_images"


def test_a_stream_that_takes_too_long_is_timed_out_and_cancelled(slow_server: Server) -> None:
    with Client(slow_server.url, timeout=0.3) as client, pytest.raises(TimedOut) as caught:
        list(client.stream(picture_bytes(), "make it night"))
    assert slow_server.result(str(caught.value.request_id)).status_code == 499


def test_a_field_out_of_bounds_is_named(client: Client) -> None:
    with pytest.raises(InputRefused, match=r"guidance_scale: .*less than or equal to 20") as caught:
        client.edit(picture_bytes(), "make it night", guidance_scale=21)
    assert caught.value.field == "guidance_scale"
    assert caught.value.details[0]["ctx"] == {"le": 20}


def test_bytes_that_are_no_picture_are_refused_by_the_server(client: Client) -> None:
    with pytest.raises(InputRefused) as caught:
        client.edit(b"no picture at all", "make it night")
    assert (caught.value.field, caught.value.kind) == ("image_url", "image_load_error")


def test_an_edit_that_breaks_says_so(client: Client) -> None:
    with pytest.raises(EditFailed, match="server's log") as caught:
        client.edit(picture_bytes(), "fail")
    assert caught.value.kind == "internal_server_error"
    assert caught.value.request_id


@pytest.mark.parametrize("call", ["status", "result", "cancel"])
def test_an_unknown_request_is_not_found(client: Client, call: str) -> None:
    with pytest.raises(RequestNotFound, match="there is no request 00000000"):
        getattr(client, call)("00000000-0000-4000-8000-000000000000")


def test_a_server_with_keys_asks_for_one_and_knows_its_own(server: Server) -> None:
    key = server.new_key()
    with Client(server.url) as stranger, pytest.raises(NotAllowed, match="HIDREAM_EDIT_KEY"):
        stranger.edit(picture_bytes(), "make it night")
    with Client(server.url, key[:-1] + "_") as liar, pytest.raises(NotAllowed, match="does not know this key"):
        liar.edit(picture_bytes(), "make it night")
    with Client(server.url, key) as owner:
        assert owner.edit(picture_bytes(), "make it night").image.size == (6, 4)


def test_an_asynchronous_program_does_the_same(slow_server: Server) -> None:
    async def program() -> list[object]:
        told: list[object] = []

        async def tell(status: object) -> None:
            await asyncio.sleep(0)
            told.append(status)

        async with AsyncClient(slow_server.url) as client:
            picture = await client.upload(picture_bytes(ORANGE))
            edit = await client.edit(picture, "make it night", output_format="png", steps=2)
            assert edit.image.getpixel((0, 0)) == INVERTED
            await client.subscribe(picture, "make it night", steps=2, on_update=tell)
            submitted = await client.submit(picture, "make it night", steps=2)
            assert (await client.result(submitted)).request_id == submitted.request_id
            assert isinstance(await client.status(submitted), Done)
            assert not await client.cancel(submitted)
            told.extend([event async for event in client.stream(picture, "make it night")])
            with pytest.raises(InputRefused):
                async for _ in client.stream(picture, "make it night", num_images=9):
                    pass
        return told

    told = asyncio.run(program())
    assert any(isinstance(one, Done) for one in told)
    assert any(isinstance(one, Preview) for one in told)
    assert isinstance(told[-1], Edit)


def test_a_cancelled_task_takes_its_edit_back(slow_server: Server) -> None:
    ids: list[str] = []

    async def program() -> None:
        async with AsyncClient(slow_server.url) as client:
            started = asyncio.Event()

            def note(submitted: Submitted) -> None:
                ids.append(submitted.request_id)
                started.set()

            task = asyncio.create_task(client.subscribe(picture_bytes(), "make it night", on_queued=note))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(program())
    assert slow_server.result(ids[0]).status_code == 499


def test_leaving_an_asynchronous_stream_cancels_the_edit(slow_server: Server) -> None:
    async def program() -> str:
        async with (
            AsyncClient(slow_server.url) as client,
            aclosing(client.stream(picture_bytes(), "make it night")) as events,
        ):
            async for event in events:
                return event.request_id
        return ""

    assert slow_server.result(asyncio.run(program())).status_code == 499


def test_one_client_serves_several_threads(client: Client) -> None:
    edits: list[Edit] = []
    threads = [
        threading.Thread(target=lambda seed=seed: edits.append(client.edit(picture_bytes(), "x", seed=seed)))
        for seed in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(edit.seed for edit in edits) == [0, 1, 2, 3]


def test_a_notebook_shows_before_and_after(client: Client) -> None:
    html = client.edit(picture_bytes(ORANGE), "<b>night</b>")._repr_html_()
    images = [part.partition('"')[0] for part in html.split('src="')[1:]]
    assert [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size for uri in images] == [(6, 4)] * 2
    assert "before" in html
    assert "after" in html
    assert "&lt;b&gt;night" in html


def test_a_quality_is_asked_for_by_name_and_told_in_numbers(client: Client) -> None:
    edit = client.edit(picture_bytes(ORANGE), "make it night", quality="turbo")
    assert edit.quality is not None
    assert (edit.quality["preset"], edit.quality["steps"], edit.quality["steps_computed"]) == ("turbo", 3, 3)
    assert client.edit(picture_bytes(ORANGE), "make it night").quality is None


def test_an_unknown_quality_is_refused_by_the_servers_words(client: Client) -> None:
    with pytest.raises(InputRefused, match="balanced") as caught:
        client.edit(picture_bytes(ORANGE), "make it night", quality="best")  # type: ignore[typeddict-item]
    assert (caught.value.field, caught.value.kind) == ("hidream_quality", "literal_error")
