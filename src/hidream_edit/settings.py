"""Settings from the environment, each with its unit, default and meaning; read once, by the commands."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ModelSettings(BaseSettings):
    """Which model, where it runs and in which precision."""

    model_config = SettingsConfigDict(env_prefix="HIDREAM_EDIT_", frozen=True, extra="ignore")

    model: str | None = Field(None, description="Model folder or hub id; the bundled mini model when unset.")
    adapter: str | None = Field(None, description="E1 adapter file, where the model is HiDream-I1-Full.")
    base: str | None = Field(
        None, description="HiDream-I1-Full folder or id, for a refine stage after the full E1 folder."
    )
    text_encoder_4: str | None = Field(
        None, description="Llama-3.1-8B-Instruct folder or id, where the model lacks it."
    )
    device: str | None = Field(None, description="cpu, cuda, cuda:1…; the GPU where there is one when unset.")
    dtype: str | None = Field(None, description="float32, bfloat16 or float16; by the device when unset.")


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
