"""Django REST framework: what it parsed from a request, and the errors that it answers itself with 5xx."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import wrapt

from otel_sentry import errors, guard
from otel_sentry_django import payload, security
from otel_sentry_django import visit as visits

MODULE = "rest_framework.views"


def install(module: ModuleType) -> None:
    """Hook `APIView`; *module* is ``rest_framework.views``. Calling it again does nothing."""
    view: Any = module.APIView
    if not isinstance(view.handle_exception, wrapt.FunctionWrapper):
        wrapt.wrap_function_wrapper(view, "initialize_request", _initialize_request)
        wrapt.wrap_function_wrapper(view, "handle_exception", _handle_exception)


def _initialize_request(call: Callable[..., Any], view: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    request = call(*args, **kwargs)
    with guard.block("rest framework request"):
        payload.parsed_by(request._request, weakref.ref(request))
    return request


def _handle_exception(call: Callable[..., Any], view: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What it does not answer it raises again, and Django reports it; an answer of 5xx would be seen by nobody."""
    response = call(*args, **kwargs)
    with guard.block("rest framework exception"):
        exc = args[0] if args else kwargs.get("exc")
        security.token_failed(view.request._request, exc, response)
        if getattr(response, "status_code", 0) >= 500 and isinstance(exc, Exception):
            request = view.request._request
            payload.failed(request)
            visit = visits.of(request)
            if visit is not None:
                visit.exception = exc
            errors.capture_unhandled(exc, mechanism="django", handled=True)
    return response
