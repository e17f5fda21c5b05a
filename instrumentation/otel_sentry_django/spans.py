"""Spans for rendered templates, and on request for middlewares: what sentry-python has and OpenTelemetry lacks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import wrapt
from asgiref.sync import iscoroutinefunction
from opentelemetry import trace

from otel_sentry import runtime
from otel_sentry._version import __version__

TEMPLATES = "otel_sentry.django_template"
MIDDLEWARES = "otel_sentry.django_middleware"
#: Not traced: a form renders one of these for every field.
_WIDGETS = "django/forms/"
_MAX_NAME = 200
_Proxy: Any = wrapt.ObjectProxy  # generic in some versions of wrapt only

_inside: ContextVar[bool] = ContextVar("otel_sentry_template", default=False)


@contextmanager
def _span(scope: str, name: str) -> Iterator[None]:
    with _tracer(trace.get_tracer_provider(), scope).start_as_current_span(name[:_MAX_NAME]):
        yield


@functools.lru_cache(maxsize=8)
def _tracer(provider: Any, scope: str) -> trace.Tracer:
    tracer: trace.Tracer = provider.get_tracer(scope, __version__)
    return tracer


def trace_templates(module: ModuleType) -> None:
    """Have the templates of a backend (`django.template.backends.*`) traced. Calling it again does nothing."""
    template: Any = module.Template
    if not isinstance(template.render, wrapt.FunctionWrapper):
        wrapt.wrap_function_wrapper(template, "render", _render)


def _render(call: Callable[..., Any], template: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a template includes or extends is part of it. Outside of any trace there is no span."""
    current = runtime.get()
    name = str(getattr(template.template, "name", None) or "<string>")  # may be a path before Django 6
    is_off = current is not None and not current.settings.django_template_spans
    if is_off or _inside.get() or name.startswith(_WIDGETS) or not trace.get_current_span().is_recording():
        return call(*args, **kwargs)
    token = _inside.set(True)
    try:
        with _span(TEMPLATES, name):
            return call(*args, **kwargs)
    finally:
        _inside.reset(token)


def trace_middlewares(module: ModuleType) -> None:
    """Have the middlewares traced that handlers load from now on; *module* is ``django.core.handlers.base``."""
    if not isinstance(module.import_string, wrapt.FunctionWrapper):
        wrapt.wrap_function_wrapper(module, "import_string", _import_string)


def _import_string(call: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    factory = call(*args, **kwargs)
    name = str(args[0] if args else kwargs.get("dotted_path"))
    return factory if name.startswith(("otel_sentry", "opentelemetry.")) else _traced(factory, name)


def _traced(factory: Any, name: str) -> Callable[[Any], Any]:
    @functools.wraps(factory, updated=())
    def make(get_response: Any) -> Any:
        inner = factory(get_response)
        return inner if inner is None else _Middleware(inner, f"{name}.__call__" if isinstance(factory, type) else name)

    setattr(make, "sync_capable", getattr(factory, "sync_capable", True))
    setattr(make, "async_capable", getattr(factory, "async_capable", False))
    return make


class _Middleware(_Proxy):  # type: ignore[misc]
    """A middleware, with a span around what it does and calls."""

    def __init__(self, inner: Any, name: str) -> None:
        super().__init__(inner)
        self._self_name = name

    def __call__(self, request: Any) -> Any:
        if iscoroutinefunction(self.__wrapped__):
            return self._self_answer(request)
        with _span(MIDDLEWARES, self._self_name):
            return self.__wrapped__(request)

    async def _self_answer(self, request: Any) -> Any:
        with _span(MIDDLEWARES, self._self_name):
            return await self.__wrapped__(request)
