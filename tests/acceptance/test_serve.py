"""The life of the server's processes."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
from PIL import Image
from tests.acceptance.conftest import APP, Process, wait_for
from tests.engine.test_safety import write_classifier
from tests.support.postgres import new_database

Start = Callable[..., Process]


def an_input(steps: int = 3, instruction: str = "x") -> dict[str, object]:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (1, 2, 3)).save(buffer, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"image_url": uri, "edit_instruction": instruction, "num_inference_steps": steps}


def status(server: Process, request_id: str) -> str:
    return str(server.client.get(f"{APP}/requests/{request_id}/status").json()["status"])


def test_it_says_where_it_is_and_edits(start: Start) -> None:
    server = start()
    server.wait_until_ready()
    assert server.client.post(APP, json=an_input()).json()["images"][0]["width"] == 4
    printed = "".join(server.printed)
    assert "curl" in printed
    assert "proxyUrl" in printed
    assert str(server.folder) in printed
    wait_for(lambda: any("null on nothing, ready after" in line for line in server.printed))


def test_a_server_may_keep_its_weights_in_fewer_bits_and_says_so(start: Start) -> None:
    server = start("--model", "mini", "--quantization", "int8")
    server.wait_until_ready()
    told = server.client.post(APP, json=an_input(steps=1, instruction="make it night")).json()["quality"]
    assert (told["preset"], told["quantization"]) == ("exact", "int8")


def test_an_idle_connection_outlives_what_clients_keep(start: Start) -> None:
    server = start()
    server.wait_until_ready()
    with httpx.Client(base_url=server.url, limits=httpx.Limits(keepalive_expiry=60)) as client:
        first = client.get("/health/live")
        stream = first.extensions["network_stream"]
        time.sleep(5.5)  # a little longer than httpx keeps one by default
        assert client.get("/health/live").extensions["network_stream"] is stream


def test_readiness_tells_loading_ready_and_draining(start: Start) -> None:
    server = start()
    words = set()
    wait_for(lambda: words.add(server.client.get("/health/ready").json()["status"]) or "ready" in words)
    assert words <= {"loading", "warming", "ready"}
    without = start("--no-runner")
    # The other server's runner shares the data folder, so jobs of this one are worked on too.
    assert without.client.get("/health/ready").json()["status"] == "ready"


def test_what_reads_pictures_has_started_before_the_server_says_that_it_is_ready(start: Start) -> None:
    server = start()
    server.wait_until_ready()
    children = psutil.Process(server.runner_pid()).children(recursive=True)
    assert sum("spawn_main" in " ".join(child.cmdline()) for child in children) == 2


def test_sigterm_lets_the_running_edit_finish_and_ends_in_order(start: Start) -> None:
    server = start(HIDREAM_EDIT_NULL_SECONDS_PER_STEP="0.05")
    server.wait_until_ready()
    request_id = server.client.post(f"/queue{APP}", json=an_input(steps=30)).json()["request_id"]
    wait_for(lambda: status(server, request_id) == "IN_PROGRESS")
    server.signal()
    wait_for(lambda: server.client.get("/health/ready").json()["status"] == "draining")
    assert server.process.wait(timeout=30) == 0
    again = start("--no-runner")
    assert status(again, request_id) == "COMPLETED"


def test_a_second_sigterm_hands_the_edit_back_and_the_next_server_finishes_it(start: Start) -> None:
    server = start(HIDREAM_EDIT_NULL_SECONDS_PER_STEP="0.2")
    server.wait_until_ready()
    request_id = server.client.post(f"/queue{APP}", json=an_input(steps=50)).json()["request_id"]
    wait_for(lambda: status(server, request_id) == "IN_PROGRESS")
    server.signal()
    wait_for(lambda: server.client.get("/health/ready").json()["status"] == "draining")
    server.signal()
    assert server.process.wait(timeout=20) == 0
    again = start()
    wait_for(lambda: status(again, request_id) == "COMPLETED")
    log = again.client.get(f"{APP}/requests/{request_id}/status?logs=1").json()["logs"]
    assert any("handed back" in entry["message"] for entry in log)


def test_a_killed_runner_is_started_again_and_its_job_is_done_by_the_next(start: Start) -> None:
    environment = {
        "HIDREAM_EDIT_NULL_SECONDS_PER_STEP": "0.05",
        "HIDREAM_EDIT_SERVER_LEASE_SECONDS": "1",
        "HIDREAM_EDIT_SERVER_HEARTBEAT_SECONDS": "0.2",
    }
    server = start(**environment)
    server.wait_until_ready()
    request_id = server.client.post(f"/queue{APP}", json=an_input(steps=20)).json()["request_id"]
    wait_for(lambda: status(server, request_id) == "IN_PROGRESS")
    os.kill(server.runner_pid(), signal.SIGKILL)
    wait_for(lambda: status(server, request_id) == "COMPLETED")
    log = server.client.get(f"{APP}/requests/{request_id}/status?logs=1").json()["logs"]
    assert any("the runner was lost" in entry["message"] for entry in log)


def test_an_acknowledged_job_survives_a_kill_of_the_server(start: Start) -> None:
    server = start("--no-runner")
    request_id = server.client.post(f"/queue{APP}", json=an_input()).json()["request_id"]
    server.signal(signal.SIGKILL)
    server.process.wait()
    again = start()
    wait_for(lambda: status(again, request_id) == "COMPLETED")


def test_a_runner_whose_server_was_killed_ends_too(start: Start) -> None:
    server = start()
    server.wait_until_ready()
    pid = server.runner_pid()
    server.signal(signal.SIGKILL)

    def is_gone() -> bool:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return state.stdout.strip() in ("", "Z")

    wait_for(is_gone)


def test_it_refuses_to_stand_open_on_a_network_without_keys(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hidream_edit"]
    data = ["--data", str(tmp_path)]
    refused = subprocess.run(
        [*command, "serve", "--host", "0.0.0.0", "--model", "null", *data], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "keys create" in refused.stderr


def test_it_says_that_pictures_are_not_checked_and_refuses_to_start_where_a_checker_is_required(
    start: Start, tmp_path: Path
) -> None:
    server = start()
    server.wait_until_ready()
    assert server.client.get("/health/ready").json()["safety"] == "unchecked"
    wait_for(lambda: any("safety    unchecked" in line for line in server.printed))
    command = [sys.executable, "-m", "hidream_edit", "runner", "--model", "null", "--require-safety-checker"]
    refused = subprocess.run(
        [*command, "--data", str(tmp_path / "other")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HOME": str(tmp_path / "empty")},
    )
    assert refused.returncode != 0
    assert "hf download" in refused.stderr


def test_a_server_with_a_checker_names_it_and_uses_it(start: Start, tmp_path: Path) -> None:
    folder = write_classifier(tmp_path / "checker")
    server = start(HIDREAM_EDIT_SAFETY_MODEL=str(folder))
    server.wait_until_ready()
    assert server.client.get("/health/ready").json()["safety"] == str(folder)
    answer = server.client.post(APP, json=an_input()).json()
    assert answer["has_nsfw_concepts"] == [True]  # dark pictures come out bright, and bright is what it flags


def test_keys_are_made_shown_once_listed_and_revoked(start: Start) -> None:
    server = start()
    server.wait_until_ready()
    command = [sys.executable, "-m", "hidream_edit"]
    data = ["--data", str(server.folder)]
    credential = subprocess.check_output([*command, "keys", "create", "phone", *data], text=True).strip()
    listed = subprocess.check_output([*command, "keys", "list", *data], text=True)
    assert "phone" in listed
    assert credential.partition(":")[2] not in listed
    headers = {"authorization": f"Key {credential}"}
    assert httpx.post(f"{server.url}{APP}", json=an_input()).status_code == 401
    assert httpx.post(f"{server.url}{APP}", json=an_input(), headers=headers, timeout=30).status_code == 200
    subprocess.check_call([*command, "keys", "revoke", credential.partition(":")[0], *data])
    wait_for(lambda: httpx.post(f"{server.url}{APP}", json=an_input(), headers=headers).status_code != 200, 15)
    assert subprocess.run([*command, "keys", "revoke", "nobody", *data], check=False).returncode == 2


def test_the_owner_sees_and_cancels_requests(start: Start) -> None:
    server = start("--no-runner")
    request_id = server.client.post(f"/queue{APP}", json=an_input()).json()["request_id"]
    command, data = [sys.executable, "-m", "hidream_edit", "requests"], ["--data", str(server.folder)]
    assert request_id in subprocess.check_output([*command, "list", *data], text=True)
    assert "cancelled" in subprocess.check_output([*command, "cancel", request_id, *data], text=True)
    assert "cancelled" in subprocess.check_output([*command, "show", request_id, *data], text=True)
    assert subprocess.run([*command, "cancel", request_id, *data], check=False).returncode == 2
    wait_for(lambda: status(server, request_id) == "COMPLETED")


def test_on_postgres_a_server_and_a_runner_of_its_own_share_the_work(start: Start) -> None:
    database = new_database()
    server = start("--no-runner", "--database", database)
    assert server.client.get("/health/ready").json()["status"] == "no runner"
    request_id = server.client.post(f"/queue{APP}", json=an_input()).json()["request_id"]
    command = [sys.executable, "-m", "hidream_edit", "runner", "--model", "null", "--data", str(server.folder)]
    runner = subprocess.Popen([*command, "--database", database])
    try:
        wait_for(lambda: status(server, request_id) == "COMPLETED")
        server.wait_until_ready()
        assert server.client.post(APP, json=an_input()).status_code == 200
    finally:
        runner.terminate()
        assert runner.wait(timeout=20) == 0
    assert not (server.folder / "jobs.sqlite3").exists()


def test_a_database_that_cannot_be_reached_says_so_without_its_password(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hidream_edit", "serve", "--data", str(tmp_path), "--model", "null"]
    refused = subprocess.run(
        [*command, "--database", "postgresql://user:pass-word@127.0.0.1:9/x"],  # pragma: allowlist secret
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 6
    assert "cannot be reached" in refused.stderr
    assert "pass-word" not in refused.stderr + refused.stdout


def test_it_speaks_tls_under_the_hosted_names(tmp_path: Path) -> None:
    command, data = [sys.executable, "-m", "hidream_edit"], ["--data", str(tmp_path / "data")]
    refused = subprocess.run(
        [*command, "serve", "--tls", "--model", "null", *data], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "dev-tls" in refused.stderr
    printed = subprocess.check_output([*command, "dev-tls", *data], text=True)
    assert "queue.fal.run" in printed
    authority = tmp_path / "data" / "tls" / "authority.pem"
    before = authority.read_bytes()
    subprocess.check_call([*command, "dev-tls", *data])
    assert authority.read_bytes() == before  # clients that trust it go on
    assert (authority.parent / "server-key.pem").stat().st_mode & 0o077 == 0
    server = Process(tmp_path / "data", "--tls")
    try:
        trusted = ssl.create_default_context(cafile=str(authority))
        extensions = {"sni_hostname": "fal.run"}
        with httpx.Client(verify=trusted) as client:
            response = client.get(f"{server.url}/health", headers={"host": "fal.run"}, extensions=extensions)
        assert response.json()["status"] == "ok"
        # A ticket that comes while a client writes its first request can cost it that request (`without_tickets`).
        with (
            socket.create_connection(("localhost", httpx.URL(server.url).port or 0)) as plain,
            trusted.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            secure.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert secure.recv(4096).startswith(b"HTTP/1.1 200")
            assert secure.session is None or not secure.session.has_ticket
    finally:
        server.close()


def test_with_json_logs_every_line_of_server_and_runner_is_an_object_that_names_its_job(start: Start) -> None:
    server = start("--log-format", "json")
    server.wait_until_ready()
    request_id = server.client.post(
        f"/queue{APP}?fal_webhook=http://10.0.0.1/x?token=abcdefgh12345678", json=an_input()
    ).json()["request_id"]
    wait_for(lambda: any("webhook of" in line for line in server.printed))
    lines = [json.loads(line) for line in server.printed if line.strip()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    (told,) = [line for line in lines if "webhook of" in line["message"]]
    assert told["job_id"] == request_id


def test_a_runner_shows_its_health_and_its_numbers_where_it_is_given_a_port(start: Start) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start(HIDREAM_EDIT_RUNNER_METRICS_PORT=str(port))
    server.wait_until_ready()
    assert httpx.get(f"http://127.0.0.1:{port}/health/ready").json() == {"status": "ready"}
    assert "hidream_edit_store_seconds_bucket" in httpx.get(f"http://127.0.0.1:{port}/metrics").text


def test_each_device_has_a_runner_of_its_own(start: Start) -> None:
    server = start("--devices", "cpu,cpu", HIDREAM_EDIT_NULL_SECONDS_PER_STEP="0.2")
    server.wait_until_ready()
    requests = [server.client.post(f"/queue{APP}", json=an_input(20)).json()["request_id"] for _ in range(2)]
    wait_for(lambda: [status(server, request_id) for request_id in requests] == ["IN_PROGRESS"] * 2)
    server.signal()
    assert server.process.wait(timeout=30) == 0
