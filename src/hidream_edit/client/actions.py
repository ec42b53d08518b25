"""What the client does with the world, as values: `talks` decides, the two clients act.

A talk is a generator. It yields an action, receives what came of it, and returns the result of the whole, so one text
serves a program that waits and one that awaits.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx

T = TypeVar("T")
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0


@dataclass(frozen=True, slots=True)
class Call:
    """An HTTP request. A repeatable one may be sent again when its answer is lost."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] | None = None
    content: bytes | None = field(default=None, repr=False)
    is_repeatable: bool = True
    follows_redirects: bool = False
    seconds_max: float = ANSWER_SECONDS  # for each wait

    def build(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """As the HTTP library wants it."""
        timeout = httpx.Timeout(self.seconds_max, connect=min(self.seconds_max, CONNECT_SECONDS))
        return http.build_request(
            self.method,
            self.url,
            headers=dict(self.headers),
            params=self.params,
            content=self.content,
            timeout=timeout,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: httpx.Headers
    body: bytes = field(repr=False)


def whole(response: httpx.Response, body: bytes) -> Answer:
    """An answer whose body has come."""
    return Answer(response.status_code, response.headers, body)


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Something that keeps a processor busy."""

    do: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the program; its function may be asynchronous where the client is."""

    listener: Callable[[Any], object]
    value: object


Action = Call | Pause | Work | Say
Talk = Generator[Action, Any, T]


class Course(Generic[T]):
    """A talk as its actions, one after the other. What comes of each is told to the talk before the next::

    for action in course:
        with course.told():
            course.came = act(action)
    return course.result
    """

    def __init__(self, talk: Talk[T]) -> None:
        self._talk = talk
        self.came: object = None
        self._raised: BaseException | None = None
        self.result: T

    def __iter__(self) -> Iterator[Action]:
        while True:
            came, raised = self.came, self._raised
            self.came = self._raised = None
            try:
                action = self._talk.send(came) if raised is None else self._talk.throw(raised)
            except StopIteration as end:
                self.result = end.value
                return
            yield action

    @contextmanager
    def told(self) -> Iterator[None]:
        """Whatever an action raises is the talk's to decide about, Ctrl-C included."""
        try:
            yield
        except BaseException as raised:  # noqa: BLE001 - it is raised again in the talk
            self._raised = raised
