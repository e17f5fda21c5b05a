"""Streaming bodies: what runs while one is sent belongs to the request's span, which ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
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
    steps = _Steps(visit, context)
    if getattr(response, "is_async", False):
        response._iterator = _AsyncBody(response._iterator, steps)
    else:
        response._iterator = _Body(response._iterator, steps)
    response._resource_closers = [*map(steps.within, response._resource_closers), steps.closed]


class _Steps:
    """What the two kinds of bodies share."""

    def __init__(self, visit: Visit, context: Context) -> None:
        self._visit = visit
        self._is_begun = False
        self._context = context

    def enter(self) -> Any:
        self._is_begun = True
        return attach(self._context)

    def leave(self, token: Any) -> None:
        """A span that is open across a `yield` is the current one again in the next step."""
        self._context = get_current()
        detach(token)

    def within(self, close: Callable[[], None]) -> Callable[[], None]:
        """A generator's `finally` belongs to the request too."""

        def run() -> None:
            token = attach(self._context)
            try:
                close()
            finally:
                detach(token)

        return run

    def failed(self, exc: BaseException) -> None:
        """The body raised. Nobody but us sees that as an error of the view: the status has been sent."""
        if isinstance(exc, (asyncio.CancelledError, GeneratorExit)):
            self._visit.cancelled()
        else:
            self._visit.exception = exc
            if isinstance(exc, Exception):
                errors.capture_unhandled(exc, mechanism="django")
        self._visit.finish()

    def exhausted(self) -> None:
        self._visit.finish()

    def closed(self) -> None:
        """The server closed the response. Under ASGI, where none is left half sent otherwise, the client is gone."""
        with guard.block("django close"):
            if self._is_begun and self._visit.is_asgi and not self._visit.ended:
                self._visit.cancelled()
            self._visit.finish()


class _Body:
    def __init__(self, content: Iterator[Any], steps: _Steps) -> None:
        self._content = content
        self._steps = steps

    def __iter__(self) -> _Body:
        return self

    def __next__(self) -> Any:
        token = self._steps.enter()
        try:
            return next(self._content)
        except StopIteration:
            self._steps.exhausted()
            raise
        except BaseException as exc:
            self._steps.failed(exc)
            raise
        finally:
            self._steps.leave(token)


class _AsyncBody:
    def __init__(self, content: AsyncIterator[Any], steps: _Steps) -> None:
        self._content = content
        self._steps = steps

    def __aiter__(self) -> _AsyncBody:
        return self

    async def __anext__(self) -> Any:
        token = self._steps.enter()
        try:
            return await self._content.__anext__()
        except StopAsyncIteration:
            self._steps.exhausted()
            raise
        except BaseException as exc:
            self._steps.failed(exc)
            raise
        finally:
            self._steps.leave(token)
