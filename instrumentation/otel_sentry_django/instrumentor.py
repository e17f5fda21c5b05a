"""contrib's DjangoInstrumentor, plus what Sentry needs of a request: data, user, exception."""

# mypy: disable-error-code="no-untyped-call"
# (contrib is not annotated)

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import wrapt
from django.core.handlers import base
from django.core.signals import got_request_exception
from django.http import HttpRequest
from opentelemetry.instrumentation.django import DjangoInstrumentor as _Contrib
from opentelemetry.instrumentation.django.middleware.otel_middleware import _DjangoMiddleware
from opentelemetry.trace import Span

from otel_sentry import ambient, errors, guard, runtime
from otel_sentry.instrumentor import OneInstance
from otel_sentry.trace.segment import Segment, current_segment, segment_of
from otel_sentry_django import caches, crumbs, drf, journeys, payload, security, spans
from otel_sentry_django import visit as visits
from otel_sentry_django.request import describe, known_user
from otel_sentry_django.views import module_of

_UID = "otel_sentry_django"


class DjangoInstrumentor(OneInstance, _Contrib):
    """Use it as contrib's; hooks given to `instrument` run after ours."""

    _opentelemetry_middleware = "otel_sentry_django.middleware.Middleware"
    _hooked = False

    def instrument(self, **kwargs: Any) -> Any:
        """As contrib's. Where the application calls contrib's itself, before or after us, all hooks run."""
        if not self.is_instrumented_by_opentelemetry:
            return super().instrument(**kwargs)
        self._hook()
        _add_hooks(kwargs.get("request_hook"), kwargs.get("response_hook"))
        return None

    def _instrument(self, **kwargs: Any) -> None:
        theirs = kwargs.pop("request_hook", None), kwargs.pop("response_hook", None)
        current = runtime.get()
        if current is not None and current.settings.django_middleware == "contrib":
            self._opentelemetry_middleware = "otel_sentry_django.middleware.ContribMiddleware"
        super()._instrument(**kwargs)
        self._hook()
        _add_hooks(*theirs)

    def _hook(self) -> None:
        if self._hooked:
            return
        self._hooked = True
        theirs = _DjangoMiddleware._otel_request_hook, _DjangoMiddleware._otel_response_hook
        _DjangoMiddleware._otel_request_hook = _on_request
        _DjangoMiddleware._otel_response_hook = _on_response
        _add_hooks(*theirs)
        got_request_exception.connect(_on_exception, dispatch_uid=_UID)
        caches.install()
        crumbs.install()
        wrapt.register_post_import_hook(drf.install, drf.MODULE)
        security.install()
        wrapt.register_post_import_hook(security.watch_rest_framework, "rest_framework.authentication")
        current = runtime.get()
        if current is not None and current.settings.django_middleware_spans:
            spans.trace_middlewares(base)

    def _uninstrument(self, **kwargs: Any) -> None:
        super()._uninstrument(**kwargs)
        got_request_exception.disconnect(dispatch_uid=_UID)
        caches.uninstall()
        security.uninstall()
        for name in ("_otel_request_hook", "_otel_response_hook"):
            setattr(_DjangoMiddleware, name, None)
        self._hooked = False


def _add_hooks(request_hook: Callable[..., None] | None, response_hook: Callable[..., None] | None) -> None:
    if request_hook:
        _DjangoMiddleware._otel_request_hook = _both(_DjangoMiddleware._otel_request_hook, request_hook)
    if response_hook:
        _DjangoMiddleware._otel_response_hook = _both(_DjangoMiddleware._otel_response_hook, response_hook)


def _both(first: Callable[..., None], second: Callable[..., None]) -> Callable[..., None]:
    def hook(*args: Any) -> None:
        first(*args)
        second(*args)

    return hook


@guard.call("django request hook")
def _on_request(span: Span, request: HttpRequest) -> None:
    if not span.is_recording():
        return
    _complete(span, request)
    segment = segment_of(span.get_span_context())
    if segment is not None:
        # The pipeline drops it with the segment, so that no request outlives its response.
        segment.request = functools.partial(_at_error_time, segment, request)
        segment.module = functools.partial(module_of, request)
        segment.journeys = journeys.of(request)
        crumbs.of_request(segment)


@guard.call("django response hook")
def _on_response(span: Span, request: HttpRequest, response: Any) -> None:
    security.answered(request, response)
    segment = segment_of(span.get_span_context())
    user = known_user(request)
    if segment is not None:
        _set_user(segment, user)
        user = dict(segment.user) if segment.user else None
    if user and span.is_recording():
        span.set_attributes(ambient.user_attributes(user))


@guard.call("django exception")
def _on_exception(sender: Any = None, request: HttpRequest | None = None, **kwargs: Any) -> None:
    """Whatever leaves a view or a middleware and is no answer of Django's own (404, 403, 400)."""
    exc = sys.exc_info()[1]
    if exc is None:
        return
    segment = current_segment()
    if request is not None:
        if segment is not None:
            _set_user(segment, known_user(request))
        payload.failed(request)
        _note_on_span(request, exc)
    errors.capture_unhandled(exc, mechanism="django")


def _note_on_span(request: HttpRequest, exc: BaseException) -> None:
    """contrib sees the exceptions of views only; those of a middleware belong on the span too."""
    visit = visits.of(request)
    if visit is not None:
        visit.exception = visit.exception or exc
        visit.name_unrouted(request)
    elif _DjangoMiddleware._environ_activation_key in request.META:
        request.META.setdefault(_DjangoMiddleware._environ_exception_key, exc)


def _at_error_time(segment: Segment, request: HttpRequest) -> dict[str, Any]:
    """The request as an event shows it; by now the user may be known as well."""
    _set_user(segment, known_user(request))
    return describe(request)


def _set_user(segment: Segment, user: dict[str, Any] | None) -> None:
    """The application's own `set_user` wins; what we found earlier (before a login) does not."""
    if user and (segment.user is None or isinstance(segment.user, _Found)):
        segment.user = _Found(user)


class _Found(dict[str, Any]):
    """A user that was read off the request."""


def _complete(span: Span, request: HttpRequest) -> None:
    """contrib puts the port into ``server.address``, or leaves it out, and the path too where there is no raw URI."""
    known = getattr(span, "attributes", None) or {}
    address = known.get("server.address")
    if isinstance(address, str):
        host, colon, port = address.rpartition(":")
        if colon and port.isdigit() and (":" not in host or host.endswith("]")):
            span.set_attribute("server.address", host)
    if not any(name in known for name in ("server.address", "net.host.name", "http.host", "http.url")):
        span.set_attribute("server.address", request.META.get("SERVER_NAME", ""))
    if not any(name in known for name in ("url.path", "http.target", "http.url")):
        span.set_attribute("url.path", request.path)
        if request.META.get("QUERY_STRING"):
            span.set_attribute("url.query", request.META["QUERY_STRING"])
