"""contrib's middleware, except that Django's own way to answer 404, 403 or 400 is no failure."""

from __future__ import annotations

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest
from django.http.multipartparser import MultiPartParserError
from opentelemetry.instrumentation.django.middleware.otel_middleware import _DjangoMiddleware

#: What ``django.core.handlers.exception.response_for_exception`` turns into an answer below 500.
ANSWERS = (Http404, PermissionDenied, BadRequest, SuspiciousOperation, MultiPartParserError)


class Middleware(_DjangoMiddleware):
    """contrib records every exception of a view and marks the span as failed; these are answers."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Remember *exception* for the span, unless it is an answer."""
        if not isinstance(exception, ANSWERS):
            super().process_exception(request, exception)  # type: ignore[no-untyped-call]
