"""Settings from the environment, each with its unit, default and meaning; read once, by the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ModelSettings(BaseSettings):
    """Which model, where it runs and in which precision."""

    model_config = SettingsConfigDict(env_prefix="HIDREAM_EDIT_", frozen=True, extra="ignore")

    model: str | None = Field(
        None, description="Model folder, hub id, or `mini`, the bundled model, which is also taken when unset."
    )
    adapter: str | None = Field(None, description="E1 adapter file, where the model is HiDream-I1-Full.")
    base: str | None = Field(
        None, description="HiDream-I1-Full folder or id, for a refine stage after the full E1 folder."
    )
    text_encoder_4: str | None = Field(
        None, description="Llama-3.1-8B-Instruct folder or id, where the model lacks it."
    )
    device: str | None = Field(None, description="cpu, cuda, cuda:1…; the GPU where there is one when unset.")
    dtype: str | None = Field(None, description="float32, bfloat16 or float16; by the device when unset.")
    memory: str | None = Field(
        None,
        description="How much of the device's memory may be used, such as 24GB; what is free when unset or `auto`.",
    )


class DescriberSettings(BaseSettings):
    """The vision-language model that may write the target description."""

    model_config = SettingsConfigDict(env_prefix="HIDREAM_EDIT_DESCRIBER_", frozen=True, extra="ignore")

    url: str | None = Field(
        None, description="Base address of an OpenAI-compatible API, such as http://localhost:8000/v1."
    )
    model: str = Field("default", description="Name of the model there.")
    key: SecretStr | None = Field(None, description="Bearer token for it; never printed.")
    timeout_seconds: float = Field(
        30.0, gt=0, description="How long an answer may take before the edit goes on without it."
    )


class SafetySettings(BaseSettings):
    """The classifier that checks sources and results."""

    model_config = SettingsConfigDict(env_prefix="HIDREAM_EDIT_SAFETY_", frozen=True, extra="ignore")

    model: str | None = Field(
        None,
        description="Image classifier, folder or hub id; Falconsai/nsfw_image_detection, where it is here, when unset.",
    )
    required: bool = Field(default=False, description="Do not start without a checker (--require-safety-checker).")


class S3Settings(BaseSettings):
    """The bucket behind ``s3://``. What is unset is taken from the environment as the AWS tools do."""

    model_config = SettingsConfigDict(env_prefix="HIDREAM_EDIT_S3_", frozen=True, extra="ignore")

    endpoint: str | None = Field(
        default=None, description="Address of a server that speaks S3, where it is not Amazon's."
    )
    region: str | None = Field(default=None, description="Region of the bucket; many servers take us-east-1.")
    access_key_id: str | None = Field(default=None, description="Name of the access key.")
    secret_access_key: SecretStr | None = Field(default=None, description="Its secret; never printed.")


class LogSettings(BaseSettings):
    """What servers and runners log."""

    model_config = SettingsConfigDict(env_prefix="HIDREAM_EDIT_LOG_", frozen=True, extra="ignore")

    format: Literal["text", "json"] = Field("text", description="Words for a person, or a JSON object per line.")


class RunnerSettings(BaseSettings):
    """What a runner shows of itself."""

    model_config = SettingsConfigDict(env_prefix="HIDREAM_EDIT_RUNNER_", frozen=True, extra="ignore")

    metrics_host: str = Field(default="127.0.0.1", description="Address for /metrics and /health of a runner.")
    metrics_port: int | None = Field(default=None, ge=0, le=65535, description="Its port; none is opened when unset.")


class NullEngineSettings(BaseSettings):
    """The engine without weights (``--model null``)."""

    model_config = SettingsConfigDict(env_prefix="HIDREAM_EDIT_NULL_", frozen=True, extra="ignore")

    seconds_per_step: float = Field(default=0.0, ge=0, description="How long each of its steps takes.")


class ServerSettings(BaseSettings):
    """The server: where it listens, where its data lies, who may call."""

    model_config = SettingsConfigDict(env_prefix="HIDREAM_EDIT_SERVER_", frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    data: str = Field("~/.local/share/hidream-edit", description="Folder of jobs, files and the secret.")
    database: SecretStr | None = Field(
        None, description="postgresql:// address; a SQLite file in the data folder when unset. May hold a password."
    )
    synchronous: Literal["full", "normal"] = Field(
        "full", description="full: a submit is on disk when it is answered; normal: faster, may lose the last moments."
    )
    blobs: str | None = Field(
        None, description="s3://bucket/prefix of files and results; a folder in the data folder when unset."
    )
    private_files: bool = Field(
        False,
        description="Files open to their owner's key and to signed addresses only, where a request says nothing else.",
    )
    bytes_max: int | None = Field(
        None, ge=1, description="Bytes that a key may store, where it has no number of its own; no limit when unset."
    )
    secret: SecretStr | None = Field(
        None, description="Signs tokens and upload addresses; kept in the data folder when unset."
    )
    tls: bool = Field(False, description="Speak TLS with the certificate that `hidream-edit dev-tls` made.")
    open_to_all: bool = Field(False, description="Serve other machines although no key exists.")
    bases: tuple[str, ...] = Field((), description="Domains whose run., queue., rest. and files. names lead here.")
    allowed_networks: tuple[str, ...] = Field(
        (), description="Networks that image_url may name although they are not public, such as 192.168.1.0/24."
    )
    tell_origin: bool = Field(
        default=True, description="Write into each picture which version, model, seed and settings made it."
    )
    rate_per_minute: float | None = Field(
        None, gt=0, description="Requests per minute of a key that has no rate of its own; no limit when unset."
    )
    concurrent_max: int | None = Field(
        None, ge=1, description="Requests of a key that wait or run at a time; no limit when unset."
    )
    keep_hours: float = Field(24.0, gt=0, description="Hours for which results can be fetched.")
    grace_seconds: float = Field(30.0, ge=0, description="Seconds that a running edit has to finish at shutdown.")
    lease_seconds: float = Field(30.0, gt=0, description="Seconds after which a silent runner's job goes to another.")
    heartbeat_seconds: float = Field(5.0, gt=0, description="Seconds between two signs of life of a runner.")
    hand_back_seconds: float = Field(5.0, ge=0, description="Seconds to hand it back after that.")

    @property
    def folder(self) -> Path:
        """The data folder, with the home folder filled in."""
        return Path(self.data).expanduser()
