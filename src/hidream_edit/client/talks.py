"""What client and server say to each other, told once for both clients; see `actions`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import httpx

from hidream_edit.client import answers, retries
from hidream_edit.client.actions import Answer, Call, Pause, Say, Talk, Work
from hidream_edit.client.asking import asked
from hidream_edit.client.edit import Edit
from hidream_edit.client.errors import ClientError, EditFailed, TimedOut
from hidream_edit.client.requests import fetch_call, initiate_call, put_call, submit_call
from hidream_edit.client.server import Server
from hidream_edit.client.sources import PictureLike, Source, data_of, opened, source_of
from hidream_edit.client.statuses import Done, LogLine, Preview, Status, Submitted

POLL_SECONDS, POLL_SECONDS_MAX, POLL_GROWTH = 0.1, 0.5, 1.5
CANCEL_SECONDS = 5.0
Listener = Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Talks:
    """``timeout`` is in seconds, for an edit from its submit to its end; None waits for ever."""

    server: Server
    timeout: float | None
    chance: Callable[[], float]
    clock: Callable[[], float]

    def upload(self, picture: PictureLike | Source) -> Talk[str]:
        """Store a picture; its address."""
        source = picture if isinstance(picture, Source) else (yield Work(lambda: source_of(picture)))
        if source.url is not None:
            return str(source.url)
        place = answers.body_of((yield from self._asked(initiate_call(self.server, source))), self.server)
        upload_url, file_url = (answers.text_in(place, name, self.server) for name in ("upload_url", "file_url"))
        stored: Answer = yield from self._asked(put_call(upload_url, source))
        if not 200 <= stored.status < 300:
            raise answers.error_of(stored, self.server)
        return file_url

    def submit(self, picture: PictureLike, instruction: str, fields: Mapping[str, Any]) -> Talk[Submitted]:
        """Make a request. It carries an id of ours, so that sending it again after a lost answer makes no second.

        Whoever is interrupted meanwhile cannot know whether it arrived, and has nothing to cancel it by; so it is sent
        once more to learn its name, and cancelled.
        """
        source = yield Work(lambda: source_of(picture))
        source_url = yield from self.upload(source)
        url = self.server.queue_url
        call = submit_call(self.server, url, source_url, instruction, fields, once=uuid.uuid4().hex)
        try:
            answer = yield from self._asked(call)
        except (ClientError, GeneratorExit):
            raise
        except BaseException:
            yield from self._unsent(call)
            raise
        body = answers.body_of(answer, self.server)
        names = ("request_id", "status_url", "response_url", "cancel_url")
        return Submitted(**{name: answers.text_in(body, name, self.server) for name in names}, source=source.image)

    def open_stream(
        self, picture: PictureLike, instruction: str, fields: Mapping[str, Any]
    ) -> Talk[tuple[Call, Source]]:
        """The call that opens a stream; nobody repeats it, since the server drops the edit when its reader goes."""
        source = yield Work(lambda: source_of(picture))
        source_url = yield from self.upload(source)
        url = f"{self.server.run_url}/stream"
        return submit_call(self.server, url, source_url, instruction, fields, once=None), source

    def edit(
        self,
        picture: PictureLike,
        instruction: str,
        fields: Mapping[str, Any],
        on_update: Listener | None = None,
        on_queued: Listener | None = None,
    ) -> Talk[Edit]:
        """Submit and wait. Whoever stops waiting takes the request back; a server out of reach keeps it."""
        submitted = yield from self.submit(picture, instruction, fields)
        try:
            if on_queued is not None:
                yield Say(on_queued, submitted)
            return (yield from self.result(submitted, on_update))
        except TimedOut:
            yield from self._withdrawn(submitted.request_id)
            raise
        except (ClientError, GeneratorExit):
            raise
        except BaseException:  # Ctrl-C, a cancelled task, a listener that raised
            yield from self._withdrawn(submitted.request_id)
            raise

    def status(self, request: str | Submitted, *, logs: bool = True) -> Talk[Status]:
        """Where a request stands."""
        request_id = id_of(request)
        url = self.server.request_url(request_id)
        call = Call("GET", f"{url}/status", self.server.headers_for(url), {"logs": "1" if logs else "0"})
        answer = yield from self._asked(call, retries.POLL_ATTEMPTS, request_id)
        if answer.status not in (200, 202):
            raise answers.error_of(answer, self.server, request_id)
        return answers.status_of(answers.body_of(answer, self.server), request_id)

    def result(self, request: str | Submitted, on_update: Listener | None = None) -> Talk[Edit]:
        """Wait for the end of a request, and fetch what it made."""
        done = yield from self._finished(request, on_update)
        url = self.server.request_url(done.request_id)
        answer = yield from self._asked(Call("GET", url, self.server.headers_for(url)), request_id=done.request_id)
        if answer.status != 200:
            raise answers.error_of(answer, self.server, done.request_id)
        source = request.source if isinstance(request, Submitted) else None
        output = answers.body_of(answer, self.server)
        return (yield from self.fetched(output, done.request_id, done.logs, Source(image=source)))

    def cancel(self, request: str | Submitted) -> Talk[bool]:
        """Take a request back; False where it had ended."""
        request_id = id_of(request)
        url = self.server.request_url(request_id)
        call = Call("PUT", f"{url}/cancel", self.server.headers_for(url))
        answer = yield from self._asked(call, request_id=request_id)
        if answer.status == 400 and b"ALREADY_COMPLETED" in answer.body:
            return False
        if not 200 <= answer.status < 300:
            raise answers.error_of(answer, self.server, request_id)
        return True

    def event(self, event: dict[str, Any], request_id: str, source: Source) -> Talk[Preview | Edit]:
        """One event of a stream: what came before the last has no timings."""
        if "error" in event:
            yield from self.result(request_id)  # which raises the error by its name
            raise EditFailed(str(event["error"]), kind="stream_error", request_id=request_id)
        if event.get("timings"):
            return (yield from self.fetched(event, request_id, (), source))
        try:
            image = yield Work(lambda: opened(data_of(event["images"][0]["url"])))
            return Preview(image, request_id, int(event["seed"]), str(event["prompt"]))
        except (KeyError, IndexError, TypeError, ValueError) as malformed:
            raise ClientError("the server sent a preview that is none", request_id=request_id) from malformed

    def fetched(
        self, output: Mapping[str, Any], request_id: str, logs: tuple[LogLine, ...], source: Source
    ) -> Talk[Edit]:
        """The edit that an output describes, with its pictures."""
        try:
            urls = tuple(str(image["url"]) for image in output["images"])
            files = []
            for url in urls:
                data = yield from self._file(url, request_id)
                files.append(data)
            images = yield Work(lambda: tuple(opened(data) for data in files))
            return Edit(
                images,
                tuple(files),
                urls,
                seed=int(output["seed"]),
                prompt=str(output["prompt"]),
                has_nsfw_concepts=tuple(bool(one) for one in output["has_nsfw_concepts"]),
                timings=dict(output["timings"]),
                request_id=request_id,
                warnings=tuple(line.message for line in logs if line.level.startswith("WARN")),
                quality=None if output.get("quality") is None else dict(output["quality"]),
                source=source.image,
            )
        except (KeyError, TypeError, ValueError) as malformed:
            raise ClientError(
                "the server's result cannot be read; update this client", request_id=request_id
            ) from malformed

    def _finished(self, request: str | Submitted, on_update: Listener | None) -> Talk[Done]:
        until, wait, last = self.until(), POLL_SECONDS, None
        while True:
            status = yield from self.status(request)
            if on_update is not None and status != last:
                yield Say(on_update, status)
            if isinstance(status, Done):
                return status
            last = status
            self.check(until, status.request_id)
            yield Pause(wait)
            wait = min(wait * POLL_GROWTH, POLL_SECONDS_MAX)

    def until(self) -> float | None:
        """When an edit that begins now has to have ended, by the clock."""
        return None if self.timeout is None else self.clock() + self.timeout

    def check(self, until: float | None, request_id: str) -> None:
        """Raise `TimedOut` when it is later than ``until``."""
        if until is not None and self.clock() > until:
            text = f"the edit did not end within {self.timeout:g} seconds; give the client a longer timeout"
            raise TimedOut(text, request_id=request_id)

    def _file(self, url: str, request_id: str) -> Talk[bytes]:
        if url.startswith("data:"):
            return data_of(url)
        answer = yield from self._asked(fetch_call(self.server, url), request_id=request_id)
        if answer.status != 200:
            gone = f"a picture cannot be fetched ({answer.status}); files are deleted some time after their request"
            raise ClientError(gone, request_id=request_id)
        return bytes(answer.body)

    def _unsent(self, call: Call) -> Talk[None]:
        with suppress(httpx.HTTPError, ClientError):
            answer = yield replace(call, seconds_max=CANCEL_SECONDS)
            yield from self._withdrawn(answers.text_in(answers.body_of(answer, self.server), "request_id", self.server))

    def _withdrawn(self, request_id: str) -> Talk[None]:
        """Cancel, once and not for long; whatever comes of it, there is an error on its way already."""
        url = self.server.request_url(request_id)
        with suppress(httpx.HTTPError):
            yield Call("PUT", f"{url}/cancel", self.server.headers_for(url), seconds_max=CANCEL_SECONDS)

    def _asked(self, call: Call, attempts: int = retries.ATTEMPTS, request_id: str | None = None) -> Talk[Answer]:
        return asked(self.server, call, self.chance, attempts, request_id)


def id_of(request: str | Submitted) -> str:
    """The id of a request."""
    return request.request_id if isinstance(request, Submitted) else request
