"""One question to a vision-language model over an OpenAI-compatible address (model.md 3.2)."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import httpx
from PIL import Image

from hidream_edit.domain.errors import DescriberFailed
from hidream_edit.domain.picture import Picture
from hidream_edit.outgoing.addresses import EVERYWHERE, AddressRefused
from hidream_edit.outgoing.client import Connect, connect, guarded_client
from hidream_edit.pictures.convert import image_of, picture_of
from hidream_edit.pictures.encode import encode

SIDE = 768  # the square that the editing model itself will see
TEMPERATURE, TOKENS_MAX, LINES = 0.2, 500, 3
ATTEMPTS = 2
QUESTION = (
    "You prepare requests for an image editing model. Look at the picture and at this instruction: {instruction}\n"
    "Answer with exactly three lines and nothing else.\n"
    "Line 1: one sentence that says what the picture shows.\n"
    "Line 2: the instruction again as one clear, complete command, keeping its meaning and adding nothing.\n"
    "Line 3: one sentence that says what the picture shows after the edit."
)


@dataclass(frozen=True, slots=True)
class Description:
    """The three lines of an answer."""

    source: str
    instruction: str
    target: str


class Describer:
    """Asks one model at one address.

    ``base_url`` ends before ``/chat/completions``. ``key`` is sent as a bearer token and appears in no message.
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str,
        key: str | None = None,
        timeout_seconds: float = 30.0,
        connect_to: Connect = connect,
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # The owner chose the address: it may be on this machine.
        self._client = guarded_client(
            allowed=EVERYWHERE, seconds_max=timeout_seconds, is_total=False, connect_to=connect_to, base_url=base_url,
            headers=headers,
        )  # fmt: skip
        self._model = model

    def describe(self, source: Picture, instruction: str) -> Description:
        """Ask about ``source`` and ``instruction``.

        Raises:
            DescriberFailed: no answer, or one that is not exactly three non-empty lines.
        """
        image = {"type": "image_url", "image_url": {"url": _as_data_uri(source)}}
        text = {"type": "text", "text": QUESTION.format(instruction=instruction)}
        body = {
            "model": self._model,
            "temperature": TEMPERATURE,
            "max_tokens": TOKENS_MAX,
            "messages": [{"role": "user", "content": [image, text]}],
        }
        answer = self._ask(body)
        lines = [line.strip() for line in answer.strip().splitlines() if line.strip()]
        if len(lines) != LINES:
            raise DescriberFailed(f"the describer answered {len(lines)} lines instead of {LINES}")
        return Description(*lines)

    def _ask(self, body: dict[str, object]) -> str:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = self._client.post("chat/completions", json=body)
                response.raise_for_status()
                content = response.json()["choices"][0]["message"]["content"]
            except (httpx.ConnectError, AddressRefused) as problem:
                if attempt == ATTEMPTS:
                    raise DescriberFailed("the describer cannot be reached") from problem
            except httpx.TimeoutException as problem:
                raise DescriberFailed("the describer took too long") from problem
            except httpx.HTTPStatusError as refused:
                raise DescriberFailed(f"the describer answered {refused.response.status_code}") from refused
            except httpx.HTTPError as problem:
                raise DescriberFailed(f"the describer broke off: {type(problem).__name__}") from problem
            except (ValueError, KeyError, IndexError, TypeError) as problem:
                raise DescriberFailed("the describer's answer is not a chat completion") from problem
            else:
                if not isinstance(content, str):
                    raise DescriberFailed("the describer's answer holds no text")
                return content
        raise AssertionError("every attempt returns or raises")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _as_data_uri(source: Picture) -> str:
    image = image_of(source, with_alpha=False).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    jpeg = encode(picture_of(image), "jpeg")
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
