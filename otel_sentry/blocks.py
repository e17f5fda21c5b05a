"""What `span`, `monitor_performance` and `tag_business_operation` share: one thing around a piece of work, as context
manager and as decorator of functions, coroutines and generators.

A generator's body is inside from its first step to its last, the consumer's code between two steps is not. One object
serves one block at a time; as a decorator it makes a new one for each call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, Span, Status, StatusCode, Tracer

from otel_sentry import guard

if TYPE_CHECKING:
    from typing import ParamSpec

    from opentelemetry.context import Context

    P = ParamSpec("P")

R = TypeVar("R")
T = TypeVar("T")


class Opened(NamedTuple):
    """A block that has begun: what is in force inside (None: nothing new), what ``with ... as`` gives, and its end,
    which runs while that is still in force."""

    context: Context | None
    value: Any
    close: Callable[[BaseException | None], None]


_NOTHING = Opened(None, INVALID_SPAN, lambda exc: None)
_END = guard.block("end of a block")


class Block(Generic[T]):
    """Base class. A subclass says how to begin (`_open`) and what it takes from the function it decorates."""

    _guard = guard.block("block")

    def __init_subclass__(cls) -> None:
        cls._guard = guard.block(cls.__name__)

    def __init__(self) -> None:
        self._entered: list[tuple[Opened, Any]] = []

    def _copy(self) -> Block[T]:
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__, _entered=[])
        return made

    def _open(self) -> Opened:
        raise NotImplementedError

    def _take_from(self, function: Callable[..., Any]) -> None:
        """Fill in what was not given, before *function* is wrapped."""

    def _begin(self) -> Opened:
        with self._guard:
            return self._open()
        return _NOTHING

    def __enter__(self) -> T:
        opened = self._begin()
        self._entered.append((opened, _attach(opened)))
        return cast(T, opened.value)

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if self._entered:
            _end(*self._entered.pop(), exc)

    async def __aenter__(self) -> T:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, exc, tb)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        if not callable(function):  # above @classmethod and the like
            guard.say_once(
                "decorator", f"a {type(function).__name__} was decorated: no function, so it is left as it is"
            )
            return function
        block = self._copy()
        with self._guard:
            block._take_from(function)
        return cast("Callable[P, R]", functools.wraps(function)(_wrapper(block, function)))


def _wrapper(block: Block[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        async def run_async(*args: Any, **kwargs: Any) -> Any:
            with block._copy():
                return await function(*args, **kwargs)

        return run_async
    if inspect.isgeneratorfunction(function):

        def steps(*args: Any, **kwargs: Any) -> Any:
            return (yield from _Steps(block, function(*args, **kwargs)))

        return steps
    if inspect.isasyncgenfunction(function):

        def async_steps(*args: Any, **kwargs: Any) -> Any:
            return _AsyncSteps(block, function(*args, **kwargs))

        return async_steps

    def run(*args: Any, **kwargs: Any) -> Any:
        with block._copy():
            return function(*args, **kwargs)

    return run


def _attach(opened: Opened) -> Any:
    return None if opened.context is None else otel_context.attach(opened.context)


def _detach(token: Any) -> None:
    if token is not None:
        otel_context.detach(token)


def _end(opened: Opened, token: Any, exc: BaseException | None) -> None:
    with _END:
        opened.close(exc)
    _detach(token)


class _Driven:
    """A generator in its block. The block begins with the first step and is in force while a step runs."""

    def __init__(self, block: Block[Any], inner: Any) -> None:
        self._block = block
        self._inner = inner
        self._opened: Opened | None = None
        self._ended = False

    def _into(self) -> Any:
        if self._opened is None:
            self._opened = self._block._begin()
        return _attach(self._opened)

    def _leave(self, exc: BaseException | None) -> None:
        if not self._ended:
            self._ended = True
            _end(self._opened or _NOTHING, None, exc)


class _Step:
    """One step of a generator, in its block. An exception leaves the block; *end* is how a generator says that it is
    through."""

    __slots__ = ("_driven", "_end", "_token")

    def __init__(self, driven: _Driven, end: type[Exception]) -> None:
        self._driven = driven
        self._end = end

    def __enter__(self) -> None:
        self._token = self._driven._into()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if exc is not None:
                self._driven._leave(None if isinstance(exc, self._end) else exc)
        finally:
            _detach(self._token)


class _Steps(_Driven, Generator[Any, Any, Any]):
    def send(self, value: Any) -> Any:
        return self._step(self._inner.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._inner.throw, *error)

    def close(self) -> None:
        if not self._ended and self._opened is not None:
            self._step(self._inner.close)
            self._leave(None)

    def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        with _Step(self, StopIteration):
            return step(*args)


class _AsyncSteps(_Driven, AsyncGenerator[Any, Any]):
    async def asend(self, value: Any) -> Any:
        return await self._step(self._inner.asend, value)

    async def athrow(self, *error: Any) -> Any:
        return await self._step(self._inner.athrow, *error)

    async def aclose(self) -> None:
        if not self._ended and self._opened is not None:
            await self._step(self._inner.aclose)
            self._leave(None)

    async def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        with _Step(self, StopAsyncIteration):
            return await step(*args)

    def __del__(self) -> None:  # given up half-way: the event loop closes the inner one only
        if self._opened is not None:
            self._leave(None)


_tracer: tuple[Any, Tracer] | None = None


def tracer() -> Tracer:
    """The tracer of our own spans. Kept: making one costs as much as a third of a span."""
    global _tracer
    provider = trace.get_tracer_provider()
    if _tracer is None or _tracer[0] is not provider:
        _tracer = (provider, provider.get_tracer("otel_sentry"))
    return _tracer[1]


def end_span(span: Span, exc: BaseException | None) -> None:
    """End a span as OpenTelemetry's own context manager does: what leaves it, other than an orderly end, is a fault."""
    try:
        if isinstance(exc, Exception) and span.is_recording():
            words = type(exc).__name__
            if guard.outcome(span.record_exception, exc) is None:  # else its text can't be had
                words += f": {exc}"
            span.set_status(Status(StatusCode.ERROR, words))
    finally:
        span.end()


def name_of(function: Callable[..., Any]) -> str:
    """How a function is called: ``Class.method``, without the functions it is written in."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).rpartition("<locals>.")[2]


@guard.call("block name", default="?")
def plain_name(name: Any) -> str | None:
    """A name as a text; None stays."""
    return name if name is None or type(name) is str else str(name)[:200]
