"""The endpoint describes itself, and behaves as it says."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.conftest import Server, an_input

from hidream_edit.api.openapi import input_schema
from hidream_edit.api.wire_input import WireInput
from hidream_edit.domain.edit import EditDefaults

ENDPOINT = "fal-ai/hidream-e1-full"


@pytest.fixture
def document(server: Server) -> dict[str, Any]:
    response = server.client.get("/api/openapi/queue/openapi.json", params={"endpoint_id": ENDPOINT})
    body: dict[str, Any] = response.json()
    return body


def test_it_has_the_published_shape(document: dict[str, Any], server: Server) -> None:
    assert document["openapi"] == "3.0.4"
    assert document["info"]["x-fal-metadata"]["endpointId"] == ENDPOINT
    assert document["servers"] == [{"url": f"{server.url}/queue"}]
    assert list(document["components"]["schemas"]) == [
        "QueueStatus", "HidreamE1FullInput", "HidreamE1FullOutput", "Image",
    ]  # fmt: skip
    assert len(document["paths"]) == 4


def test_its_input_is_what_is_read() -> None:
    schema = input_schema(EditDefaults())
    assert set(schema["properties"]) == set(WireInput.model_fields)
    assert schema["required"] == [name for name, field in WireInput.model_fields.items() if field.is_required()]
    assert schema["properties"]["num_inference_steps"] | {"title": "", "description": ""} == {
        "title": "", "description": "", "type": "integer", "minimum": 1, "maximum": 50, "default": 50,
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["num_inference_steps", "seed", "guidance_scale", "image_guidance_scale", "num_images"]
)
def test_its_bounds_are_those_that_are_enforced(server: Server, name: str) -> None:
    field = input_schema(EditDefaults())["properties"][name]
    for outside in (field["minimum"] - 1, field["maximum"] + 1):
        response = server.client.post(f"/{ENDPOINT}", json=an_input(**{name: outside}))
        assert response.status_code == 422
        assert response.json()["detail"][0]["loc"] == ["body", name]


def test_the_defaults_are_those_of_the_loaded_model() -> None:
    schema = input_schema(EditDefaults(num_inference_steps=4, guidance_scale=1.0))
    assert schema["properties"]["num_inference_steps"]["default"] == 4
    assert schema["properties"]["guidance_scale"]["default"] == 1.0


def test_an_answer_has_what_the_output_schema_requires(server: Server, document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["HidreamE1FullOutput"]
    body = server.client.post(f"/{ENDPOINT}", json=an_input()).json()
    assert set(body) == set(schema["required"])
    assert set(body["images"][0]) == set(document["components"]["schemas"]["Image"]["properties"])


def test_the_platform_lists_the_model(server: Server) -> None:
    (model,) = server.client.get("/v1/models", params={"expand": "openapi-3.0"}).json()["models"]
    assert model["endpoint_id"] == ENDPOINT
    assert model["openapi"]["openapi"] == "3.0.4"
    assert server.client.get("/v1/models", params={"endpoint_id": "x/y"}).json()["models"] == []


def test_an_unknown_endpoint_has_no_document(server: Server) -> None:
    assert server.client.get("/api/openapi/queue/openapi.json?endpoint_id=x/y").status_code == 404
