"""The client for programs that wait."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from hidream_edit.client.actions import Action, Call, Course, Pause, Talk, Work, whole
from hidream_edit.client.edit import Edit
from hidream_edit.client.progress import shown
from hidream_edit.client.requests import Fields
from hidream_edit.client.server import DEFAULT_APP, Server
from hidream_edit.client.sources import PictureLike
from hidream_edit.client.statuses import Done, Preview, Queued, Running, Submitted
from hidream_edit.client.streams import Stream
from hidream_edit.client.talks import Talks

T = TypeVar("T")


class Client:
    """A server to edit with: ``Client().edit("photo.jpg", "make it night").image`` is the edited picture.

    ``server`` and ``key`` are taken from ``HIDREAM_EDIT_URL`` and ``HIDREAM_EDIT_KEY`` (else ``FAL_KEY``) when left
    out. ``timeout`` is in seconds, for an edit from its submit to its end; without it an edit takes what it takes.
    ``transport``, ``sleep``, ``chance`` and ``clock`` are for tests. Every method may raise any `ClientError`.
    """

    def __init__(
        self,
        server: str | None = None,
        key: str | None = None,
        *,
        app: str = DEFAULT_APP,
        timeout: float | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._talks = Talks(Server.named(server, key, app), timeout, chance, clock)
        self._http = httpx.Client(transport=transport)
        self._sleep = sleep

    def edit(
        self, image: PictureLike, instruction: str, *, progress: bool | None = None, **fields: Unpack[Fields]
    ) -> Edit:
        """Edit a picture and wait for it. ``progress=False`` shows no bar; without a terminal there is none anyway.

        Raises:
            InputRefused: the picture or a field cannot be taken.
            EditFailed, Cancelled, TimedOut: there is no result.
            NotAllowed, NotReachable: about the server.
        """
        with shown(progress) as listener:
            return self._run(self._talks.edit(image, instruction, fields, listener))

    def subscribe(
        self,
        image: PictureLike,
        instruction: str,
        *,
        on_update: Callable[[Queued | Running | Done], object] | None = None,
        on_queued: Callable[[Submitted], object] | None = None,
        **fields: Unpack[Fields],
    ) -> Edit:
        """The same, telling each change of the status. A function that raises cancels the edit."""
        return self._run(self._talks.edit(image, instruction, fields, on_update, on_queued))

    def stream(self, image: PictureLike, instruction: str, **fields: Unpack[Fields]) -> Iterator[Preview | Edit]:
        """Previews while the edit runs, then the edit. Leaving the loop cancels it."""
        stream = Stream(self._talks, *self._run(self._talks.open_stream(image, instruction, fields)))
        try:
            with closing(self._http.send(stream.call.build(self._http), stream=True)) as response:
                if response.status_code != 200:
                    raise stream.refused(whole(response, response.read()))
                stream.begin(response.headers)
                for line in response.iter_lines():
                    if (talk := stream.heard(line)) is not None:
                        told = self._run(talk)
                        yield told
                        if isinstance(told, Edit):
                            return
        except httpx.HTTPError as lost:
            raise stream.lost(lost) from lost
        raise stream.ended()

    def submit(self, image: PictureLike, instruction: str, **fields: Unpack[Fields]) -> Submitted:
        """Put an edit into the queue and go on."""
        return self._run(self._talks.submit(image, instruction, fields))

    def status(self, request: str | Submitted, *, logs: bool = True) -> Queued | Running | Done:
        """Where a request stands.

        Raises:
            RequestNotFound: no request by that id.
        """
        return self._run(self._talks.status(request, logs=logs))

    def result(self, request: str | Submitted) -> Edit:
        """Wait for a request that was submitted, and fetch its pictures; see `edit` for what may be raised."""
        return self._run(self._talks.result(request))

    def cancel(self, request: str | Submitted) -> bool:
        """Cancel a request: a waiting one never runs, a running one stops at its next step. False: it had ended.

        Raises:
            RequestNotFound: no request by that id.
        """
        return self._run(self._talks.cancel(request))

    def upload(self, picture: PictureLike) -> str:
        """Store a picture for several edits; give its address instead of the picture."""
        return self._run(self._talks.upload(picture))

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._talks.server.url!r}, app={self._talks.server.app!r})"

    def _run(self, talk: Talk[T]) -> T:
        course = Course(talk)
        for action in course:
            with course.told():
                course.came = self._do(action)
        return course.result

    def _do(self, action: Action) -> Any:
        if isinstance(action, Call):
            response = self._http.send(action.build(self._http), follow_redirects=action.follows_redirects)
            return whole(response, response.content)
        if isinstance(action, Pause):
            return self._sleep(action.seconds)
        return action.do() if isinstance(action, Work) else action.listener(action.value)
