"""The client for programs that await; what it says to the server is in `talks`, as for its twin."""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
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


class AsyncClient:
    """`Client` for asynchronous programs: the same arguments, methods and errors, awaited.

    Functions that are told of a status may be asynchronous.
    """

    def __init__(
        self,
        server: str | None = None,
        key: str | None = None,
        *,
        app: str = DEFAULT_APP,
        timeout: float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._talks = Talks(Server.named(server, key, app), timeout, chance, clock)
        self._http = httpx.AsyncClient(transport=transport)
        self._sleep = sleep

    async def edit(
        self, image: PictureLike, instruction: str, *, progress: bool | None = None, **fields: Unpack[Fields]
    ) -> Edit:
        """Edit a picture and wait for it. ``progress=False`` shows no bar; without a terminal there is none anyway.

        Raises:
            InputRefused: the picture or a field cannot be taken.
            EditFailed, Cancelled, TimedOut: there is no result.
            NotAllowed, NotReachable: about the server.
        """
        with shown(progress) as listener:
            return await self._run(self._talks.edit(image, instruction, fields, listener))

    async def subscribe(
        self,
        image: PictureLike,
        instruction: str,
        *,
        on_update: Callable[[Queued | Running | Done], object] | None = None,
        on_queued: Callable[[Submitted], object] | None = None,
        **fields: Unpack[Fields],
    ) -> Edit:
        """The same, telling each change of the status. A function that raises cancels the edit."""
        return await self._run(self._talks.edit(image, instruction, fields, on_update, on_queued))

    async def stream(
        self, image: PictureLike, instruction: str, **fields: Unpack[Fields]
    ) -> AsyncGenerator[Preview | Edit, None]:
        """Previews while the edit runs, then the edit. Leaving the loop cancels it: at once inside `aclosing`."""
        stream = Stream(self._talks, *(await self._run(self._talks.open_stream(image, instruction, fields))))
        try:
            async with aclosing(await self._http.send(stream.call.build(self._http), stream=True)) as response:
                if response.status_code != 200:
                    raise stream.refused(whole(response, await response.aread()))
                stream.begin(response.headers)
                async for line in response.aiter_lines():
                    if (talk := stream.heard(line)) is not None:
                        told = await self._run(talk)
                        yield told
                        if isinstance(told, Edit):
                            return
        except httpx.HTTPError as lost:
            raise stream.lost(lost) from lost
        raise stream.ended()

    async def submit(self, image: PictureLike, instruction: str, **fields: Unpack[Fields]) -> Submitted:
        """Put an edit into the queue and go on."""
        return await self._run(self._talks.submit(image, instruction, fields))

    async def status(self, request: str | Submitted, *, logs: bool = True) -> Queued | Running | Done:
        """Where a request stands.

        Raises:
            RequestNotFound: no request by that id.
        """
        return await self._run(self._talks.status(request, logs=logs))

    async def result(self, request: str | Submitted) -> Edit:
        """Wait for a request that was submitted, and fetch its pictures; see `edit` for what may be raised."""
        return await self._run(self._talks.result(request))

    async def cancel(self, request: str | Submitted) -> bool:
        """Cancel a request: a waiting one never runs, a running one stops at its next step. False: it had ended.

        Raises:
            RequestNotFound: no request by that id.
        """
        return await self._run(self._talks.cancel(request))

    async def upload(self, picture: PictureLike) -> str:
        """Store a picture for several edits; give its address instead of the picture."""
        return await self._run(self._talks.upload(picture))

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._talks.server.url!r}, app={self._talks.server.app!r})"

    async def _run(self, talk: Talk[T]) -> T:
        course = Course(talk)
        for action in course:
            with course.told():
                course.came = await self._do(action)
        return course.result

    async def _do(self, action: Action) -> Any:
        if isinstance(action, Call):
            response = await self._http.send(action.build(self._http), follow_redirects=action.follows_redirects)
            return whole(response, response.content)
        if isinstance(action, Pause):
            return await self._sleep(action.seconds)
        if isinstance(action, Work):
            return await asyncio.to_thread(action.do)
        said = action.listener(action.value)
        return await said if inspect.isawaitable(said) else said
