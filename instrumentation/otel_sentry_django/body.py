"""Streaming bodies: what runs while one is sent belongs to the request's span, which ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry.context import attach, detach, get_current

from otel_sentry import errors, guard

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from otel_sentry_django.visit import Visit


def follow(visit: Visit, response: Any, context: Context) -> None:
    """Run the iterator of *response* in *context*, and finish *visit* at its end, or when the response is closed.

    Django's `_iterator` and not `streaming_content`: setting that would take a `FileResponse` away from the server's
    own way to send files. Such a file is only followed to its close.
    """
    is_async = getattr(response, "is_async", False)
    steps = _Steps(visit, context, StopAsyncIteration if is_async else StopIteration)
    response._iterator = (_AsyncBody if is_async else _Body)(response._iterator, steps)
    response._resource_closers = [*map(steps.within, response._resource_closers), steps.closed]


class _Steps:
    """What the two kinds of bodies share."""

    def __init__(self, visit: Visit, context: Context, end: type[Exception]) -> None:
        self._visit = visit
        self._end = end
        self._is_begun = False
        self._context = context

    def enter(self) -> Any:
        self._is_begun = True
        return attach(self._context)

    def leave(self, token: Any) -> None:
        """A span that is open across a `yield` is the current one again in the next step."""
        self._context = get_current()
        detach(token)

    def raised(self, exc: BaseException) -> None:
        if isinstance(exc, self._end):
            self._visit.finish()
        else:
            self._failed(exc)

    def within(self, close: Callable[[], None]) -> Callable[[], None]:
        """A generator's `finally` belongs to the request too."""

        def run() -> None:
            token = attach(self._context)
            try:
                close()
            finally:
                detach(token)

        return run

    def _failed(self, exc: BaseException) -> None:
        """The body raised. Nobody but us sees that as an error of the view: the status has been sent."""
        if isinstance(exc, (asyncio.CancelledError, GeneratorExit)):
            self._visit.cancelled()
        else:
            self._visit.exception = exc
            if isinstance(exc, Exception):
                errors.capture_unhandled(exc, mechanism="django")
        self._visit.finish()

    def closed(self) -> None:
        """The server closed the response. Under ASGI, where none is left half sent otherwise, the client is gone."""
        with guard.block("django close"):
            if self._is_begun and self._visit.is_asgi and not self._visit.ended:
                self._visit.cancelled()
            self._visit.finish()


class _Step:
    """One step of a body, as a context manager."""

    __slots__ = ("_steps", "_token")

    def __init__(self, steps: _Steps) -> None:
        self._steps = steps

    def __enter__(self) -> None:
        self._token = self._steps.enter()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if exc is not None:
                self._steps.raised(exc)
        finally:
            self._steps.leave(self._token)


class _Body:
    def __init__(self, content: Iterator[Any], steps: _Steps) -> None:
        self._content = content
        self._steps = steps

    def __iter__(self) -> _Body:
        return self

    def __next__(self) -> Any:
        with _Step(self._steps):
            return next(self._content)


class _AsyncBody:
    def __init__(self, content: AsyncIterator[Any], steps: _Steps) -> None:
        self._content = content
        self._steps = steps

    def __aiter__(self) -> _AsyncBody:
        return self

    async def __anext__(self) -> Any:
        with _Step(self._steps):
            return await self._content.__anext__()
