"""One request while it is answered: its span, the contexts to leave, and the metrics of contrib's names."""

# mypy: disable-error-code="no-untyped-call"
# (contrib is not annotated)

from __future__ import annotations

import asyncio
import types
from collections.abc import Mapping
from timeit import default_timer
from typing import Any

from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.urls import get_resolver
from opentelemetry.context import attach, detach, get_current
from opentelemetry.instrumentation._semconv import _report_new, _report_old, _StabilityMode
from opentelemetry.instrumentation.django.middleware import otel_middleware
from opentelemetry.instrumentation.propagators import get_global_response_propagator
from opentelemetry.instrumentation.utils import _start_internal_or_server_span, extract_attributes_from_object
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.util.http import (
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS,
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST,
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE,
    SanitizeValue,
    get_custom_headers,
    normalise_request_header_name,
    normalise_response_header_name,
    sanitize_method,
)

from otel_sentry import guard
from otel_sentry_django import body

#: contrib's functions, as its own middleware has imported them.
contrib: Any = otel_middleware
_KEY = "_otel_sentry_visit"


def of(request: HttpRequest) -> Visit | None:
    """The visit of *request*; None where our middleware did not begin one."""
    visit: Visit | None = request.__dict__.get(_KEY)
    return visit


@guard.call("django request")
def begin(middleware: Any, request: HttpRequest) -> Visit | None:
    """Start the span and make it the current one; None where the URL is excluded."""
    excluded = middleware._excluded_urls
    if getattr(excluded, "_excluded_urls", True) and excluded.url_disabled(_url(request)):
        return None
    is_asgi = isinstance(request, ASGIRequest)
    if is_asgi and not contrib._is_asgi_supported:
        guard.say_once("asgi", "requests under ASGI need opentelemetry-instrumentation-asgi: not traced")
        return None
    visit = Visit(middleware, request, is_asgi)
    request.__dict__[_KEY] = visit
    hook = contrib._DjangoMiddleware._otel_request_hook
    if hook:
        with guard.block("request_hook"):
            hook(visit.span, request)
    return visit


class Visit:
    """The span of one request. Ends once, in whatever thread the response is closed."""

    __slots__ = ("_middleware", "_name", "_started", "_tokens", "attributes", "ended", "exception", "is_asgi", "span")

    def __init__(self, middleware: Any, request: HttpRequest, is_asgi: bool) -> None:
        self._middleware = middleware
        self.ended = False
        self.is_asgi = is_asgi
        self.exception: BaseException | None = None
        self._name: str | None = _first_name(request)
        carrier: Any = request.scope if is_asgi else request.META
        collect = contrib.asgi_collect_request_attributes if is_asgi else contrib.wsgi_collect_request_attributes
        #: contrib's start attributes; they become those of the metrics.
        self.attributes: dict[str, Any] = collect(carrier, middleware._sem_conv_opt_in_mode)
        self.span: Span
        self.span, token = _start_internal_or_server_span(
            tracer=middleware._tracer,
            span_name=self._name,
            start_time=request.META.get("opentelemetry-instrumentor-django.starttime_key"),
            context_carrier=carrier,
            context_getter=contrib.asgi_getter if is_asgi else contrib.wsgi_getter,
            attributes=self.attributes,
        )
        self._tokens = [token] if token else []
        with guard.block("django request attributes"):
            middleware._active_request_counter.add(1, self._active())
            if self.span.is_recording():
                more = self._request_attributes(request, carrier)
                if more:
                    self.span.set_attributes(more)
        self._tokens.append(attach(set_span_in_context(self.span)))
        self._started = default_timer()

    @guard.call("django route")
    def route(self, request: HttpRequest) -> None:
        """Django has resolved the URL: name and route are known. A name that the application gave stays."""
        match = request.resolver_match
        if not match or self._name is None:
            return
        self._rename(self._middleware._get_span_name(request))
        route = getattr(match, "route", None)
        if route:
            self.span.set_attribute("http.route", route)
            mode = self._middleware._sem_conv_opt_in_mode
            if _report_old(mode):
                self.attributes["http.target"] = route
            if _report_new(mode):
                self.attributes["http.route"] = route

    def name_unrouted(self, request: HttpRequest, status: int | None = None) -> None:
        """A middleware answered, or raised, before Django looked the URL up: this is the first and only look.

        Not where Django found nothing (404), nor before the application's URLs have been loaded at all.
        """
        if self._name is None or not self.span.is_recording():
            return
        with guard.block("django route"):
            if status == 404:
                self._rename(sanitize_method(request.method.strip()).replace("_OTHER", "HTTP"))
            elif "url_patterns" in vars(get_resolver()):
                self._rename(self._middleware._get_span_name(request))

    def _rename(self, name: str) -> None:
        if getattr(self.span, "name", None) == self._name:
            self.span.update_name(name)
        self._name = None

    def respond(self, request: HttpRequest, response: Any) -> None:
        """The middlewares are through. A streaming body keeps the span; its contexts end here in any case."""
        streams = False
        with guard.block("django response"):
            self.name_unrouted(request, response.status_code)
            self._describe(response)
            hook = contrib._DjangoMiddleware._otel_response_hook
            if hook:
                with guard.block("response_hook"):
                    hook(self.span, request, response)
            if getattr(response, "streaming", False):
                body.follow(self, response, get_current())
                streams = True
        self._leave()
        if not streams:
            self.finish()

    def abandon(self, exc: BaseException) -> None:
        """No response will come: the client is gone (CancelledError), or the process is going."""
        if isinstance(exc, asyncio.CancelledError):
            self.cancelled(exc)
        else:
            self.exception = exc
        self._leave()
        self.finish()

    def cancelled(self, exc: BaseException | None = None) -> None:
        """The client went away. Without any response that is an error by the HTTP conventions; never an issue."""
        kind = type(exc) if exc is not None else asyncio.CancelledError
        self.span.set_attribute("error.type", f"{kind.__module__}.{kind.__qualname__}")
        if exc is not None:
            self.span.set_status(Status(StatusCode.ERROR, "the client disconnected"))

    def finish(self) -> None:
        """End the span. Does nothing the second time."""
        if self.ended:
            return
        self.ended = True
        with guard.block("django metrics"):
            self._record_metrics()
        exc = self.exception
        self.exception = None  # its traceback holds the frames of the view
        if exc is not None and self.span.is_recording():
            with guard.block("django exception"):
                self.span.record_exception(exc)
                self.span.set_status(Status(StatusCode.ERROR, f"{type(exc).__name__}: {exc}"))
        self.span.end()

    def _leave(self) -> None:
        while self._tokens:
            detach(self._tokens.pop())

    def _request_attributes(self, request: HttpRequest, carrier: Any) -> dict[str, Any]:
        wanted = self._middleware._traced_request_attrs
        found: dict[str, Any] = extract_attributes_from_object(request, wanted) if wanted else {}
        is_server = getattr(self.span, "kind", None) is SpanKind.SERVER
        if self.is_asgi:
            if wanted:
                headers = {name.decode("latin1"): value.decode("latin1") for name, value in carrier.get("headers", ())}
                found = extract_attributes_from_object(types.SimpleNamespace(**headers), wanted, found)
            names = get_custom_headers(OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST)
            if is_server and names:
                found |= _asgi_headers(carrier, names, normalise_request_header_name)
        elif is_server:
            found |= contrib.wsgi_collect_custom_request_headers_attributes(carrier)
        return found

    def _describe(self, response: Any) -> None:
        mode = self._middleware._sem_conv_opt_in_mode
        is_server = self.span.is_recording() and getattr(self.span, "kind", None) is SpanKind.SERVER
        if self.is_asgi:
            code = response.status_code
            contrib.set_status_code(self.span, code, metric_attributes=self.attributes, sem_conv_opt_in_mode=mode)
            names = get_custom_headers(OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE)
            if is_server and names:
                headers: dict[str, Any] = {}
                for key, value in response.items():
                    contrib.asgi_setter.set(headers, key, value)
                self.span.set_attributes(_asgi_headers(headers, names, normalise_response_header_name))
        else:
            status = f"{response.status_code} {response.reason_phrase}"
            contrib.add_response_attributes(
                self.span, status, response.items(), duration_attrs=self.attributes, sem_conv_opt_in_mode=mode
            )
            if is_server:
                more = contrib.wsgi_collect_custom_response_headers_attributes(response.items())
                if more:
                    self.span.set_attributes(more)
        propagator = get_global_response_propagator()
        if propagator:
            propagator.inject(response)

    def _active(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = contrib._parse_active_request_count_attrs(
            self.attributes, self._middleware._sem_conv_opt_in_mode
        )
        return found

    def _record_metrics(self) -> None:
        seconds = max(default_timer() - self._started, 0)
        middleware, known = self._middleware, self.attributes
        context = set_span_in_context(self.span)  # of exemplars; the body may end elsewhere
        if middleware._duration_histogram_old:
            attributes = contrib._parse_duration_attrs(known, _StabilityMode.DEFAULT)
            if known.get("http.target"):
                attributes["http.target"] = known["http.target"]
            middleware._duration_histogram_old.record(round(seconds * 1000), attributes, context)
        if middleware._duration_histogram_new:
            attributes = contrib._parse_duration_attrs(known, _StabilityMode.HTTP)
            middleware._duration_histogram_new.record(seconds, attributes, context)
        middleware._active_request_counter.add(-1, self._active())


def _first_name(request: HttpRequest) -> str:
    method = sanitize_method(request.method.strip())
    return "HTTP" if method == "_OTHER" else f"{method} {request.path}"


def _url(request: HttpRequest) -> str:
    """What the patterns of excluded URLs are asked about."""
    try:
        url: str = request.build_absolute_uri("?")
    except DisallowedHost:  # Django's answer to it is a request like any other
        url = request.path
    return url


def _asgi_headers(carrier: Any, names: list[str], normalise: Any) -> dict[str, Any]:
    sanitize = SanitizeValue(get_custom_headers(OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS))
    found: dict[str, Any] = contrib.asgi_collect_custom_headers_attributes(carrier, sanitize, names, normalise)
    return found
