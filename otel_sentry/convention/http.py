"""Requests that this program answers, and those that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.trace import SpanKind

from otel_sentry.convention.naming import MAX_NAME, cut, django_route
from otel_sentry.convention.origin import WEB
from otel_sentry.convention.view import Meaning, View
from otel_sentry.privacy import scrub_path, strip_url

_MAX_OPERATIONS = 5
#: Requests for what is not there: one transaction, whatever scanners ask for. The path is in the data.
UNMATCHED = "/{unmatched}"


def is_server(view: View) -> bool:
    """A SERVER span, or one that stands in for it at the root (contrib's Django below nothing)."""
    if "http.request.method" not in view.data:
        return False
    return view.kind is SpanKind.SERVER or (view.is_root and view.kind is SpanKind.INTERNAL and view.library in WEB)


def server(view: View) -> Meaning:
    """`METHOD /route`, else the path without its query (source `url`), else the span's own name.

    What Django's URLs do not know is `METHOD /{unmatched}`.
    """
    data = view.data
    method = str(data["http.request.method"])
    path = data.get("url.path")
    # sentry-python names Django's transactions without the method.
    bare = view.style == "sentry" and view.library in ("django", "")
    route = _route_of(view, method, path)
    if route is not None:
        text, source = django_route(route, view.style if bare else "otel"), "route"
    elif path == "/":
        text, source = "/", "route"
    elif view.library == "django" and data.get("http.response.status_code") == 404:
        text, source = UNMATCHED, "route"
    elif isinstance(path, str) and path:
        text, source = scrub_path(path), "url"
    else:
        return Meaning("http.server", view.name, view.name, "custom")
    text = cut((text if bare else f"{method} {text}") + _operations(view), MAX_NAME)
    return Meaning("http.server", text, text, source)


def _route_of(view: View, method: str, path: Any) -> str | None:
    """`http.route`, or the route in the span's name: contrib's Django puts it there first."""
    route = view.data.get("http.route")
    if isinstance(route, str) and route:
        return route
    prefix, _, rest = view.name.partition(" ")
    if prefix != method or not rest or path == "/" or "://" in rest:
        return None
    if not rest.startswith("/"):
        return rest
    return rest if isinstance(path, str) and rest != path and any(mark in rest for mark in "{<(") else None


def _operations(view: View) -> str:
    """The GraphQL operations that a request carried: ` (query A, query B)`, five at most."""
    given = view.folded.get("sentry.graphql.operation")
    names = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else []
    if not names:
        return ""
    shown = [str(name) for name in names[:_MAX_OPERATIONS]]
    if len(names) > _MAX_OPERATIONS:
        shown.append(f"+{len(names) - _MAX_OPERATIONS}")
    return f" ({', '.join(shown)})"


def client(view: View) -> Meaning:
    """`METHOD scheme://host[:port]/path`, or the template where there is one. Manual spans keep their name."""
    data = view.data
    if view.kind is SpanKind.INTERNAL:
        if view.library in WEB:
            # Django below a WSGI or ASGI span: a second http.server would count the request twice.
            return Meaning("middleware", view.name, view.name, "custom")
        if not view.library:
            return Meaning("http", view.name, view.name, "custom")
    op = "http.client" if view.kind is SpanKind.CLIENT else "http"
    if data.get("sentry.http.prefetch"):
        op += ".prefetch"
    method = str(data["http.request.method"])
    if isinstance(template := data.get("url.template") or data.get("http.route"), str):
        text = cut(f"{method} {template}", MAX_NAME)
        return Meaning(op, text, text, "route")
    full = data.get("url.full")
    if not isinstance(full, str):
        return Meaning(op, view.name, view.name, "custom")
    text = f"{method} {cut(scrub_path(strip_url(full)), 2048)}"
    return Meaning(op, text, cut(text, MAX_NAME), "url")
