"""Outgoing HTTP for otel-sentry: contrib's instrumentors of requests, urllib3, httpx and aiohttp's client.

This module imports neither a client nor contrib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_sentry_http.aiohttp_ import AioHttpClientInstrumentor as AioHttpClientInstrumentor
    from otel_sentry_http.httpx_ import HTTPXClientInstrumentor as HTTPXClientInstrumentor
    from otel_sentry_http.requests_ import RequestsInstrumentor as RequestsInstrumentor
    from otel_sentry_http.urllib3_ import URLLib3Instrumentor as URLLib3Instrumentor

_MODULES = {
    "AioHttpClientInstrumentor": "aiohttp_",
    "HTTPXClientInstrumentor": "httpx_",
    "RequestsInstrumentor": "requests_",
    "URLLib3Instrumentor": "urllib3_",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
