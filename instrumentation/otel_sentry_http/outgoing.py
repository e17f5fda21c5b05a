"""What contrib leaves out of a client's span, whichever client it is: a URL without secrets, the server's address."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.trace import Span

from otel_sentry import guard, runtime
from otel_sentry.privacy import scrub_url

_URLS = ("url.full", "http.url")
_PORTS = {"http": 80, "https": 443}
Hook = Callable[..., Any]


def with_hook(options: dict[str, Any]) -> dict[str, Any]:
    """The options of `instrument()`: our hook first, then the program's own."""
    theirs: Hook | None = options.get("request_hook")

    def hook(span: Span, *details: Any) -> None:
        complete(span)
        if theirs is not None:
            theirs(span, *details)

    options["request_hook"] = hook
    return options


def with_async_hook(options: dict[str, Any]) -> dict[str, Any]:
    """The same for httpx's asynchronous client."""
    theirs: Callable[..., Awaitable[Any]] | None = options.get("async_request_hook")

    async def hook(span: Span, *details: Any) -> None:
        complete(span)
        if theirs is not None:
            await theirs(span, *details)

    options["async_request_hook"] = hook
    return options


@guard.call("outgoing request")
def complete(span: Span) -> None:
    """Scrub the URL for every backend, and name the server where contrib does not (urllib3, and the legacy names)."""
    if not span.is_recording():
        return
    known = getattr(span, "attributes", None) or {}
    current = runtime.get()
    pii = current is not None and current.settings.send_default_pii
    for name in _URLS:
        url = known.get(name)
        if isinstance(url, str):
            clean = scrub_url(url, pii=pii)
            if clean != url:
                span.set_attribute(name, clean)
            if "server.address" not in known and name == "url.full":
                _name_server(span, clean)


def _name_server(span: Span, url: str) -> None:
    parts = urlsplit(url)
    if parts.hostname:
        span.set_attribute("server.address", parts.hostname)
        port = parts.port or _PORTS.get(parts.scheme)
        if port is not None:
            span.set_attribute("server.port", port)
