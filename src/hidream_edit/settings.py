"""Settings from the environment, each with its unit, default and meaning; read once, by the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _unset(words: str) -> dict[str, JsonValue]:
    """What an unset value means; docs/reference/settings.md says it in the place of the default."""
    return {"unset": words}


class ModelSettings(BaseSettings):
    """Which model, where it runs and in which precision."""

    model_config = SettingsConfigDict(env_prefix="HIDREAM_EDIT_", frozen=True, extra="ignore")

    model: str | None = Field(
        None, description="Model folder, hub id, or `mini`.", json_schema_extra=_unset("the bundled mini model")
    )
    adapter: str | None = Field(None, description="File of the E1 adapter, where the model is HiDream-I1-Full.")
    base: str | None = Field(None, description="HiDream-I1-Full, for a refine stage after the full E1 folder.")
    text_encoder_4: str | None = Field(
        None,
        description="Llama-3.1-8B-Instruct folder or hub id.",
        json_schema_extra=_unset("the model's own folder"),
    )
    device: str | None = Field(
        None,
        description="`cpu`, `cuda`, `cuda:1`…",
        json_schema_extra=_unset("the GPU where there is one, else `cpu`"),
    )
    devices: str | None = Field(
        None,
        description="Several devices, such as `cuda:0,cuda:1`. `edit` and `runner` do each edit on all of them; "
        "`serve` starts a runner for each, or for as many as `HIDREAM_EDIT_SERVER_DEVICES_PER_EDIT` says. Not together "
        "with `HIDREAM_EDIT_DEVICE`.",
        json_schema_extra=_unset("`serve`: every CUDA device that is visible; else one device"),
    )
    dtype: str | None = Field(
        None,
        description="`float32`, `bfloat16`, `float16`.",
        json_schema_extra=_unset("`bfloat16` on a GPU, `float32` on a CPU"),
    )
    memory: str | None = Field(
        None,
        description="How much of the device's memory may be used, such as 24GB; `auto`: what is free.",
        json_schema_extra=_unset("`auto`"),
    )
    quality: str | None = Field(
        None,
        description="What edits that do not say trade for time: `exact`, `balanced` or `turbo`; see [quality]"
        "(../concepts/quality.md).",
        json_schema_extra=_unset("the model's own, `exact` where it has none"),
    )
    float8: bool = Field(
        default=False,
        description="Edits that are not exact multiply in float8; needs a GPU of compute capability 8.9 or newer.",
    )
    measures: str | None = Field(
        None,
        description="Ways to compute less, beside those that the device has by default, or left out of them with `no-` "
        "before the name, such as `compiled,no-grouped`; [all of them](../decisions/0017-measures.md). For trying out.",
        json_schema_extra=_unset("those that were shown to help"),
    )
    quantization: str | None = Field(
        None,
        description="What the weights of wide layers are kept as: `float8`, `int8` or `nf4`, which saves memory and "
        "changes pictures a little; see [small cards](../guides/small-cards.md). Not together with "
        "`HIDREAM_EDIT_FLOAT8`.",
        json_schema_extra=_unset("`none`: as they are"),
    )


class DescriberSettings(BaseSettings):
    """The vision-language model that may write the target description."""

    model_config = SettingsConfigDict(env_prefix="HIDREAM_EDIT_DESCRIBER_", frozen=True, extra="ignore")

    url: str | None = Field(
        None,
        description="Base address of an OpenAI-compatible API, such as `http://localhost:8000/v1`.",
        json_schema_extra=_unset("none: not used"),
    )
    model: str = Field("default", description="Name of the model there.")
    key: SecretStr | None = Field(None, description="Bearer token for it; appears in no message.")
    timeout_seconds: float = Field(
        30.0, gt=0, description="Seconds after which the edit goes on without the description."
    )


class SafetySettings(BaseSettings):
    """The classifier that checks sources and results."""

    model_config = SettingsConfigDict(env_prefix="HIDREAM_EDIT_SAFETY_", frozen=True, extra="ignore")

    model: str | None = Field(
        None,
        description="Image classifier, folder or hub id.",
        json_schema_extra=_unset("`Falconsai/nsfw_image_detection`, where the hub's cache has it"),
    )
    required: bool = Field(default=False, description="Do not start without a checker.")


class S3Settings(BaseSettings):
    """The bucket behind ``s3://``. What is unset is taken from the environment as the AWS tools do."""

    model_config = SettingsConfigDict(env_prefix="HIDREAM_EDIT_S3_", frozen=True, extra="ignore")

    endpoint: str | None = Field(
        default=None, description="Address of another server that speaks S3.", json_schema_extra=_unset("Amazon's")
    )
    region: str | None = Field(
        default=None,
        description="Region of the bucket; many servers take `us-east-1`.",
        json_schema_extra=_unset("the environment's"),
    )
    access_key_id: str | None = Field(
        default=None, description="Name of the access key.", json_schema_extra=_unset("the environment's")
    )
    secret_access_key: SecretStr | None = Field(
        default=None, description="Its secret; appears in no message.", json_schema_extra=_unset("the environment's")
    )


class LogSettings(BaseSettings):
    """What servers and runners log."""

    model_config = SettingsConfigDict(env_prefix="HIDREAM_EDIT_LOG_", frozen=True, extra="ignore")

    format: Literal["text", "json"] = Field(
        "text",
        description="Of `serve` and `runner`: `text`, or `json` for one object per line with `time`, `level`, "
        "`logger`, `message` and, where known, `request_id` and `job_id`.",
    )


class RunnerSettings(BaseSettings):
    """What a runner shows of itself."""

    model_config = SettingsConfigDict(env_prefix="HIDREAM_EDIT_RUNNER_", frozen=True, extra="ignore")

    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port on which a runner answers `/metrics`, `/health/live` and `/health/ready`; only one "
        "runner per port.",
        json_schema_extra=_unset("none: not opened"),
    )
    metrics_host: str = Field(default="127.0.0.1", description="Address of that port; it asks for no key.")


class TraceSettings(BaseSettings):
    """Where traces go. The names are OpenTelemetry's own, and its library reads the rest of them."""

    model_config = SettingsConfigDict(env_prefix="OTEL_", frozen=True, extra="ignore")

    exporter_otlp_endpoint: str | None = Field(
        default=None, description="Address of a collector that speaks OTLP over HTTP; no traces when unset."
    )
    exporter_otlp_traces_endpoint: str | None = Field(default=None, description="The same, with its path; wins.")
    sdk_disabled: str = Field(default="", description="true: no traces, whatever else is set.")

    @property
    def is_wanted(self) -> bool:
        """Whether a collector is named."""
        is_named = bool(self.exporter_otlp_endpoint or self.exporter_otlp_traces_endpoint)
        return is_named and self.sdk_disabled.strip().lower() != "true"


class NullEngineSettings(BaseSettings):
    """The engine without weights (``--model null``)."""

    model_config = SettingsConfigDict(env_prefix="HIDREAM_EDIT_NULL_", frozen=True, extra="ignore")

    seconds_per_step: float = Field(default=0.0, ge=0, description="Seconds that each of its steps takes.")


class ServerSettings(BaseSettings):
    """The server: where it listens, where its data lies, who may call."""

    model_config = SettingsConfigDict(env_prefix="HIDREAM_EDIT_SERVER_", frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", description="Address to listen on; any other than loopback asks for keys first.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    data: str = Field("~/.local/share/hidream-edit", description="Folder of jobs, files and the secret.")
    database: SecretStr | None = Field(
        None,
        description="`postgresql://` address, for several machines; may hold a password, which appears in no message.",
        json_schema_extra=_unset("a SQLite file in the data folder"),
    )
    blobs: str | None = Field(
        None,
        description="`s3://bucket/prefix` of uploads and results, for several machines; see [S3](#s3).",
        json_schema_extra=_unset("a folder in the data folder"),
    )
    synchronous: Literal["full", "normal"] = Field(
        "full",
        description="`full`: a submit is on disk when it is answered; `normal`: faster, may lose the last moments at a "
        "power cut.",
    )
    secret: SecretStr | None = Field(
        None,
        description="Signs tokens and upload addresses; appears in no message.",
        json_schema_extra=_unset("a file in the data folder"),
    )
    tls: bool = Field(False, description="Speak TLS with the certificate that `hidream-edit dev-tls` made.")
    open_to_all: bool = Field(False, description="Serve other machines although no key exists.")
    bases: tuple[str, ...] = Field(
        (), description="Domains (a JSON list) whose `run.`, `queue.`, `rest.` and `files.` names lead here."
    )
    allowed_networks: tuple[str, ...] = Field(
        (),
        description='Networks (a JSON list, such as `["192.168.1.0/24"]`) that `image_url` and webhooks may name '
        "although they are not public.",
    )
    tell_origin: bool = Field(
        default=True, description="Write into each picture which version, model, seed and settings made it."
    )
    rate_per_minute: float | None = Field(
        None,
        gt=0,
        description="Requests per minute of a key that has no rate of its own (`keys create --rate`).",
        json_schema_extra=_unset("no limit"),
    )
    concurrent_max: int | None = Field(
        None,
        ge=1,
        description="Requests of a key that wait or run at a time, where it has no number of its own "
        "(`keys create --concurrent`).",
        json_schema_extra=_unset("no limit"),
    )
    bytes_max: int | None = Field(
        None,
        ge=1,
        description="Bytes that a key may store, where it has no number of its own (`keys create --store`, in "
        "megabytes); counts results too, refuses uploads only.",
        json_schema_extra=_unset("no limit"),
    )
    private_files: bool = Field(
        False,
        description="Files open to their owner's key and to signed addresses only, where a request says nothing else "
        "(`initial_acl`).",
    )
    devices_per_edit: int = Field(
        1, ge=1, description="Devices that do one edit together; a runner is started for each that many."
    )
    keep_hours: float = Field(24.0, gt=0, description="Hours for which results can be fetched.")
    grace_seconds: float = Field(30.0, ge=0, description="Seconds that a running edit has to finish at shutdown.")
    hand_back_seconds: float = Field(5.0, ge=0, description="Seconds to hand it back to the queue after that.")
    lease_seconds: float = Field(30.0, gt=0, description="Seconds after which a silent runner's job goes to another.")
    heartbeat_seconds: float = Field(5.0, gt=0, description="Seconds between two signs of life of a runner.")

    @property
    def folder(self) -> Path:
        """The data folder, with the home folder filled in."""
        return Path(self.data).expanduser()
