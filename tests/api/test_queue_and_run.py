"""Submit, status, result, cancel, the synchronous call and the stream, over HTTP."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx
import pytest
from tests.api.conftest import APP, Server, an_input, data_uri, picture_bytes

from hidream_edit.domain.job import JobState
from hidream_edit.pictures.decode import decode

REQUESTS = f"/queue{APP}/requests"


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in response.iter_lines() if line.startswith("data: ")]


def test_the_synchronous_call_answers_with_the_output(server: Server) -> None:
    response = server.client.post(APP, json=an_input(seed=5))
    assert response.status_code == 200
    body = response.json()
    assert (body["seed"], body["has_nsfw_concepts"], body["prompt"]) == (5, [], "make it night")
    (image,) = body["images"]
    assert {**image, "url": ""} == {"url": "", "width": 6, "height": 4, "content_type": "image/png"}
    picture = server.client.get(image["url"])
    assert decode(picture.content).rgb[:3] == bytes((55, 155, 255))
    assert picture.headers["content-type"] == "image/png"
    assert response.headers["x-fal-request-id"]
    assert response.headers["x-fal-served-from"].startswith("runner-")


def test_a_submit_answers_with_addresses_that_work(server: Server) -> None:
    body = server.submit()
    assert body["status"] == "IN_QUEUE"
    assert body["queue_position"] >= 0
    assert body["gateway_request_id"] == body["request_id"]
    for name in ("status_url", "response_url"):
        assert httpx.get(body[name]).status_code in (200, 202, 400)
    assert server.result(body["request_id"]).json()["images"][0]["width"] == 6


def test_while_it_waits_the_status_says_where_in_the_line(idle_server: Server) -> None:
    first, second = idle_server.submit(), idle_server.submit()
    response = idle_server.client.get(second["status_url"])
    body = response.json()
    assert (response.status_code, body["status"], body["queue_position"]) == (202, "IN_QUEUE", 1)
    assert body["request_id"] == second["request_id"]
    assert {"response_url", "status_url", "cancel_url"} <= body.keys()
    result = idle_server.client.get(f"{REQUESTS}/{first['request_id']}")
    assert (result.status_code, result.json()) == (400, {"detail": "Request is still in progress"})


def test_running_and_completed_have_their_own_status_codes_and_keys(slow_server: Server) -> None:
    body = slow_server.submit(num_inference_steps=10)
    url, seen = body["status_url"], {}
    while "COMPLETED" not in seen:
        response = slow_server.client.get(url)
        seen[response.json()["status"]] = response
    assert (seen["IN_PROGRESS"].status_code, seen["COMPLETED"].status_code) == (202, 200)
    assert seen["IN_PROGRESS"].json()["logs"] is None
    assert seen["IN_PROGRESS"].json()["metrics"] == {}
    assert seen["COMPLETED"].json()["metrics"]["inference_time"] > 0.1
    assert "error" not in seen["COMPLETED"].json()


@pytest.mark.parametrize("value", ["1", "true", "True"])
def test_logs_tell_every_step_with_time_and_level(server: Server, value: str) -> None:
    body = server.submit()
    server.result(body["request_id"])
    logs = server.client.get(f"{body['status_url']}?logs={value}").json()["logs"]
    steps = [entry for entry in logs if entry["message"].startswith("step")]
    assert [entry["message"] for entry in steps] == ["step 1 of 3", "step 2 of 3", "step 3 of 3"]
    assert steps[0]["level"] == "INFO"
    assert steps[0]["timestamp"].endswith("+00:00")
    assert "seconds" in steps[0]["labels"]
    assert server.client.get(f"{body['status_url']}?logs=0").json()["logs"] is None


@pytest.mark.parametrize("path", ["", "/", "/response", "/status", "/status/", "/status/stream"])
@pytest.mark.parametrize("prefix", ["/queue", ""])
def test_the_sdks_spellings_of_the_paths_are_all_served(server: Server, path: str, prefix: str) -> None:
    request_id = server.submit()["request_id"]
    server.result(request_id)
    assert server.client.get(f"{prefix}{APP}/requests/{request_id}{path}").status_code == 200


@pytest.mark.parametrize("path", ["", "/status", "/status/stream"])
def test_an_unknown_request_is_not_found(server: Server, path: str) -> None:
    response = server.client.get(f"{REQUESTS}/6b1f0c1e-0000-4000-8000-000000000001{path}")
    assert (response.status_code, response.json()) == (404, {"status": "NOT_FOUND"})


def test_wrong_input_is_refused_at_once_when_one_waits_and_at_the_result_when_one_does_not(server: Server) -> None:
    wrong = an_input(num_images=9, guidance_scale="much")
    at_once = server.client.post(APP, json=wrong)
    assert at_once.status_code == 422
    details = at_once.json()["detail"]
    assert {tuple(detail["loc"]): detail["type"] for detail in details} == {
        ("body", "num_images"): "less_than_equal",
        ("body", "guidance_scale"): "float_parsing",
    }
    assert {"le": 4} in [detail.get("ctx") for detail in details]
    submitted = server.client.post(f"/queue{APP}", json=wrong)
    assert submitted.status_code == 200
    body = submitted.json()
    later = server.result(body["request_id"])
    assert (later.status_code, later.json()) == (422, at_once.json())
    status = server.client.get(body["status_url"]).json()
    assert (status["status"], status["error"]) == ("COMPLETED", "Unexpected status code: 422")


@pytest.mark.parametrize("content", [b"{", b"[]", b'"x"', b"\xff", b"", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused_everywhere(server: Server, content: bytes) -> None:
    for path in (APP, f"{APP}/stream"):
        response = server.client.post(path, content=content)
        assert response.status_code == 422
        assert response.json()["detail"][0]["loc"] == ["body"]


def test_json_is_read_whatever_the_content_type_says(server: Server) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert server.client.post(APP, content=json.dumps(an_input()), headers=headers).status_code == 200


def test_null_is_left_out_and_unknown_fields_are_ignored(server: Server) -> None:
    response = server.client.post(APP, json=an_input(seed=None, num_images=None, strength=3, guidance_scale="2"))
    assert response.status_code == 200


def test_unknown_fields_are_named_in_the_log(server: Server) -> None:
    body = server.submit(strength=3, image_size="square")
    server.result(body["request_id"])
    logs = server.client.get(f"{body['status_url']}?logs=1").json()["logs"]
    assert any(entry["message"].endswith("image_size, strength") and entry["level"] == "WARN" for entry in logs)


def test_a_seed_is_chosen_at_the_submit_so_that_every_attempt_makes_the_same_picture(idle_server: Server) -> None:
    request_id = idle_server.submit()["request_id"]
    seed = idle_server.store.get(request_id).input["edit_input"]["seed"]
    assert isinstance(seed, int)
    assert 0 <= seed < 2**53


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("data:image/png;base64,AAAA", "image_load_error"),
        ("data:,%PDF-1.4", "unsupported_image_format"),
        ("http://127.0.0.1:9/x.png", "file_download_error"),
        ("ftp://example.com/x.png", "file_download_error"),
        ("blob:" + "a" * 32, "image_load_error"),
    ],
)
def test_a_source_that_cannot_be_had_is_a_documented_error(server: Server, url: str, kind: str) -> None:
    response = server.client.post(APP, json=an_input(image_url=url))
    assert response.status_code == 422
    assert response.json()["detail"][0] | {"msg": "", "ctx": None} == {
        "loc": ["body", "image_url"], "type": kind, "url": f"https://docs.fal.ai/errors#{kind}", "msg": "", "ctx": None,
    }  # fmt: skip
    assert response.headers["x-fal-error-type"] == kind


def test_a_failing_engine_is_a_500_that_tells_nothing_of_the_inside(server: Server) -> None:
    response = server.client.post(APP, json=an_input(edit_instruction="fail"))
    assert response.status_code == 500
    assert "null engine" not in response.text


def test_sync_mode_puts_the_pictures_into_the_answer(server: Server) -> None:
    body = server.client.post(APP, json=an_input(sync_mode=True, num_images=2)).json()
    assert all(image["url"].startswith("data:image/png;base64,") for image in body["images"])
    assert len(body["images"]) == 2


def test_cancelling_what_waits_ends_it_at_once(idle_server: Server) -> None:
    body = idle_server.submit()
    response = idle_server.client.put(body["cancel_url"])
    assert (response.status_code, response.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    status = idle_server.client.get(body["status_url"])
    assert (status.status_code, status.json()["error_type"]) == (200, "client_cancelled")
    result = idle_server.client.get(body["response_url"])
    assert (result.status_code, result.json()["error_type"]) == (499, "client_cancelled")
    again = idle_server.client.put(body["cancel_url"])
    assert (again.status_code, again.json()) == (400, {"status": "ALREADY_COMPLETED"})


def test_cancelling_what_runs_ends_it_within_a_step_or_two(slow_server: Server) -> None:
    body = slow_server.submit()
    while slow_server.client.get(body["status_url"]).json()["status"] != "IN_PROGRESS":
        time.sleep(0.01)
    began = time.monotonic()
    slow_server.client.put(body["cancel_url"])
    assert slow_server.result(body["request_id"]).status_code == 499
    assert time.monotonic() - began < 1.0


def test_a_synchronous_caller_who_goes_away_cancels_the_job(slow_server: Server) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{slow_server.url}{APP}", json=an_input(), timeout=0.3)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        jobs = slow_server.store.changed_since(0)
        if jobs and jobs[-1].state is JobState.CANCELLED:
            return
        time.sleep(0.02)
    raise AssertionError([job.state for job in jobs])


@pytest.mark.parametrize("header", ["x-fal-request-timeout", "x-fal-request-start-timeout"])
def test_a_request_that_does_not_start_in_time_is_a_504_of_the_user(idle_server: Server, header: str) -> None:
    response = idle_server.client.post(APP, json=an_input(), headers={header: "0.2"})
    assert response.status_code == 504
    assert response.headers["x-fal-request-timeout-type"] == "user"
    assert response.json() == {"detail": "Request timed out", "error_type": "request_timeout"}


@pytest.mark.parametrize("value", ["soon", "0", "0.1", "-5", "nan", "inf"])
def test_a_malformed_timeout_is_a_bad_request(server: Server, value: str) -> None:
    response = server.client.post(APP, json=an_input(), headers={"x-fal-request-timeout": value})
    assert (response.status_code, response.json()["error_type"]) == (400, "bad_request")


def test_a_queue_that_is_longer_than_the_caller_wants_is_a_429(idle_server: Server) -> None:
    idle_server.submit()
    response = idle_server.client.post(f"/queue{APP}?fal_max_queue_length=0", json=an_input())
    assert response.status_code == 429
    assert response.headers["x-fal-needs-retry"] == "1"
    assert idle_server.client.post(f"/queue{APP}?fal_max_queue_length=1", json=an_input()).status_code == 200


def test_the_same_idempotency_key_submits_once(server: Server) -> None:
    headers = {"x-fal-idempotency-key": "k"}
    answers = [server.client.post(f"/queue{APP}", json=an_input(), headers=headers).json() for _ in range(2)]
    assert answers[0]["request_id"] == answers[1]["request_id"]


def test_low_priority_waits_behind_the_rest(idle_server: Server) -> None:
    low = idle_server.client.post(f"/queue{APP}", json=an_input(), headers={"x-fal-queue-priority": "low"}).json()
    idle_server.submit()
    time.sleep(0.3)
    assert idle_server.client.get(low["status_url"]).json()["queue_position"] == 1


def test_another_callers_request_looks_as_if_it_did_not_exist(server: Server) -> None:
    mine, other = (
        httpx.Client(base_url=server.url, headers={"authorization": f"Key {server.new_key(name)}"})
        for name in ("me", "other")
    )
    body = server.submit(mine)
    for client, code in ((mine, (200, 202)), (other, (404,))):
        assert client.get(body["status_url"]).status_code in code
    assert other.put(body["cancel_url"]).status_code == 404
    assert other.get(body["response_url"]).json() == {"status": "NOT_FOUND"}
    mine.close()
    other.close()


def test_once_there_are_keys_nobody_gets_in_without(server: Server) -> None:
    credential = server.new_key()
    for headers in ({}, {"authorization": "Key wrong:key"}, {"authorization": f"Key {credential}x"}):
        response = server.client.post(APP, json=an_input(), headers=headers)
        assert response.status_code == 401
        assert response.json()["detail"].startswith('Cannot access application "fal-ai/hidream-e1-full"')
        assert server.client.get(f"{REQUESTS}/x/status", headers=headers).status_code == 401
    good = {"authorization": f"Key {credential}"}
    assert server.client.post(APP, json=an_input(), headers=good).status_code == 200


def test_a_token_stands_for_its_caller_until_it_is_over(server: Server) -> None:
    good = {"authorization": f"Key {server.new_key()}"}
    asked = {"allowed_apps": ["hidream-e1-full"], "token_expiration": 60}
    token = server.client.post("/tokens/", json=asked, headers=good)
    assert isinstance(token.json(), str)
    assert server.client.post(f"{APP}?fal_jwt_token={token.json()}", json=an_input()).status_code == 200
    short = server.client.post("/tokens/realtime", json={"duration": 0.05}, headers=good).json()["token"]
    time.sleep(0.06)
    for wrong in (short, "nonsense", f"{token.json()}x"):
        assert server.client.post(f"{APP}?fal_jwt_token={wrong}", json=an_input()).status_code == 401


def test_unknown_apps_paths_and_methods_are_answered_in_json(server: Server) -> None:
    assert server.client.post("/fal-ai/other", json=an_input()).status_code == 404
    assert server.client.post("/queue/fal-ai/other", json=an_input()).status_code == 404
    assert server.client.get("/x").json() == {"detail": "Path /x not found"}
    wrong_method = server.client.get(APP)
    assert (wrong_method.status_code, wrong_method.json()) == (405, {"detail": "Method Not Allowed"})


def test_a_body_over_the_limit_is_a_413(server: Server) -> None:
    response = server.client.post(APP, content=b" " * 2_000_001)
    assert (response.status_code, response.json()["error_type"]) == (413, "bad_request")


def test_health_tells_the_truth(server: Server) -> None:
    assert server.client.get("/health").json()["status"] == "ok"
    assert server.client.get("/health/live").status_code == 200
    assert server.client.get("/health/ready").json()["status"] == "ready"


def test_browsers_may_call_from_anywhere_and_read_the_headers(server: Server) -> None:
    headers = {"origin": "https://app.example", "access-control-request-method": "POST",
               "access-control-request-headers": "authorization,x-fal-target-url"}  # fmt: skip
    for path in (APP, "/api/fal/proxy", "/storage/upload/x"):
        response = server.client.options(path, headers=headers)
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == "*"
    answer = server.client.get("/health", headers={"origin": "https://app.example"})
    assert "x-fal-request-id" in answer.headers["access-control-expose-headers"]


def test_many_callers_at_once_all_get_their_own_picture(server: Server) -> None:
    results: dict[int, int] = {}

    def call(number: int) -> None:
        data = picture_bytes((number, number, number))
        response = httpx.post(f"{server.url}{APP}", json=an_input(image_url=data_uri(data)), timeout=30)
        results[number] = decode(httpx.get(response.json()["images"][0]["url"]).content).rgb[0]

    threads = [threading.Thread(target=call, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: 255 - number for number in range(12)}


def test_what_is_not_to_be_stored_is_gone_soon_after_it_was_fetched(server: Server) -> None:
    headers = {"x-fal-store-io": "0"}
    request_id = server.client.post(f"/queue{APP}", json=an_input(), headers=headers).json()["request_id"]
    assert server.result(request_id).status_code == 200
    job = server.store.get(request_id)
    assert job.input == {}
    assert job.finished_at is not None
    assert job.keep_seconds < 62
    assert server.client.get(f"/queue{APP}/requests/{request_id}").status_code == 200  # an answer may get lost
    server.store.keep_until(request_id, time.time())
    deadline = time.monotonic() + 10
    while server.client.get(f"/queue{APP}/requests/{request_id}/status").status_code != 404:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert server.store.prune(now=time.time()) == 1
