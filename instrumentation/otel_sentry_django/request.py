"""What an HttpRequest already knows, for an error event. Nothing reads the session or the database.

The fields are those of Sentry's Request interface (develop docs, "Request Interface").
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import empty

from otel_sentry import ambient, runtime
from otel_sentry.privacy import FILTERED
from otel_sentry_django.address import client_ip
from otel_sentry_django.payload import data_of


def describe(request: HttpRequest) -> dict[str, Any]:
    """The request as Sentry's ``request`` block. Cookies and the address of the client only with PII on."""
    meta = request.META
    host = meta.get("HTTP_HOST") or f"{meta.get('SERVER_NAME', '')}:{meta.get('SERVER_PORT', '')}"
    found: dict[str, Any] = {
        "method": request.method,
        "url": f"{request.scheme}://{host}{request.path}",
        "query_string": meta.get("QUERY_STRING", ""),
        "headers": {name: value for name, value in request.headers.items() if name != "Cookie"},
        "env": {name: meta[name] for name in ("SERVER_NAME", "SERVER_PORT") if name in meta},
    }
    data = data_of(request)
    if data is not None:
        found["data"] = data
    if _pii():
        keys = (settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME)
        found["cookies"] = {name: FILTERED if name in keys else value for name, value in request.COOKIES.items()}
        address = client_ip(meta)
        if address:
            found["env"]["REMOTE_ADDR"] = address
    return found


def known_user(request: HttpRequest) -> dict[str, Any] | None:
    """The request's user if it was loaded already; None where finding out would take a query."""
    known = request.__dict__
    for name in ("user", "_cached_user", "_acached_user"):
        user = known.get(name)
        user = getattr(user, "_wrapped", user)  # of a SimpleLazyObject; reading it loads nothing
        if user is None or user is empty:
            continue
        if getattr(user, "is_anonymous", False) is True:
            return {"user_type": "anonymous"}
        found = ambient.loaded_user(user)
        if found is not None:
            return found if _pii() else {key: found[key] for key in ("id", "user_type") if key in found}
    return None


def _pii() -> bool:
    current = runtime.get()
    return current is not None and current.settings.send_default_pii
