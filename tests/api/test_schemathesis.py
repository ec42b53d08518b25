"""Whatever fits the server's own description is answered as the description says."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from requests.exceptions import ChunkedEncodingError
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.api.conftest import APP, Server, an_input

from hidream_edit.api.app import ROUTES
from hidream_edit.api.server_document import server_document
from hidream_edit.domain.edit import EditDefaults

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
DESCRIBED = schemathesis.openapi.from_dict(server_document("http://127.0.0.1", EditDefaults()))
OPERATIONS = {found.ok().label: found.ok() for found in DESCRIBED.get_all_operations()}
STREAM = f"POST {APP}/stream"
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "20"))


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def known(shared_server: Server) -> dict[str, Iterator[str]]:
    """Ids of a finished request and a file, and of nobody's, in turn."""
    done = shared_server.submit()["request_id"]
    url = shared_server.result(done).json()["images"][0]["url"]
    return {
        "request_id": itertools.cycle([done, "nobody"]),
        "blob_id": itertools.cycle([url.split("/")[-2], "nobody"]),
    }


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fitting", "unfitting"])
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_one_that_the_description_names(
    label: str, mode: GenerationMode, shared_server: Server, known: dict[str, Iterator[str]]
) -> None:
    cases = OPERATIONS[label].as_strategy(generation_mode=mode)

    @given(case=cases)
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=False)
    def check(case: Any) -> None:
        for name, ids in known.items():
            if name in case.path_parameters:
                case.path_parameters[name] = next(ids)
        try:
            case.call_and_validate(base_url=shared_server.url, checks=CHECKS, timeout=30)
        except ChunkedEncodingError:
            assert label == STREAM  # a stream whose edit fails ends in the middle, so that no client takes it for whole

    try:
        check()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # this operation takes nothing that could be wrong


def test_every_route_is_described() -> None:
    described = server_document("http://127.0.0.1", EditDefaults())["paths"]
    for route in ROUTES:
        path = route.path.replace("/{owner}/{app}", APP).replace(":int}", "}").removesuffix("/")
        names = {
            path,
            f"{path}/",
            path.replace(f"{APP}/requests", f"/queue{APP}/requests", 1).replace("/queue/queue", "/queue"),
        }
        assert names & described.keys() or path == f"{APP}/realtime", path


def test_the_description_speaks_of_the_address_that_was_used(shared_server: Server) -> None:
    assert shared_server.client.get("/openapi.json").json()["servers"] == [{"url": shared_server.url}]
    assert shared_server.client.post(APP, json=an_input()).status_code == 200
