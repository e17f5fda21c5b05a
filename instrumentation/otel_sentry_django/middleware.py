"""The middleware that makes the server span: ours, and contrib's with one correction (decision 24).

Ours does what contrib's cannot: it is at home in sync and async code (no hop to another thread under ASGI), the span
lasts until a streaming body has been sent, survives a client that goes away, and gets its route when Django knows it.
"""

# mypy: disable-error-code="no-untyped-call"
# (contrib is not annotated)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest
from django.http.multipartparser import MultiPartParserError
from opentelemetry.instrumentation.django.middleware.otel_middleware import _DjangoMiddleware

from otel_sentry_django import visit as visits

#: What ``django.core.handlers.exception.response_for_exception`` turns into an answer below 500.
ANSWERS = (Http404, PermissionDenied, BadRequest, SuspiciousOperation, MultiPartParserError)


class ContribMiddleware(_DjangoMiddleware):
    """contrib records every exception of a view and marks the span as failed; some are answers."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Remember *exception* for the span, unless it is an answer."""
        if not isinstance(exception, ANSWERS):
            super().process_exception(request, exception)


class Middleware(_DjangoMiddleware):
    """The same span as contrib's, attribute by attribute, from the first middleware to the last byte of the body."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
            setattr(self, "process_view", self._process_view_async)

    def __call__(self, request: HttpRequest) -> Any:
        if self._is_async:
            return self._answer(request)
        visit = visits.begin(self, request)
        if visit is None:
            return self.get_response(request)
        try:
            response = self.get_response(request)
        except BaseException as exc:
            visit.abandon(exc)
            raise
        visit.respond(request, response)
        return response

    async def _answer(self, request: HttpRequest) -> Any:
        visit = visits.begin(self, request)
        if visit is None:
            return await self.get_response(request)
        try:
            response = await self.get_response(request)
        except BaseException as exc:  # CancelledError: the client went away
            visit.abandon(exc)
            raise
        visit.respond(request, response)
        return response

    def process_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        """Django has found the view: name the span after its route."""
        visit = visits.of(request)
        if visit is not None:
            visit.route(request)

    async def _process_view_async(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        Middleware.process_view(self, request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Remember *exception* for the span, unless it is an answer."""
        visit = visits.of(request)
        if visit is not None and not isinstance(exception, ANSWERS):
            visit.exception = exception
