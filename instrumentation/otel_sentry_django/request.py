"""What an HttpRequest already knows, for an error event. Nothing reads the body, the session or the database.

The fields are those of Sentry's Request interface (develop docs, "Request Interface").
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from django.http import HttpRequest
from django.utils.functional import empty

from otel_sentry import ambient, runtime

#: Bytes of a body, and characters of one form field, that go into an event. Longer bodies are left out.
MAX_BODY = 10_000
MAX_FIELD = 1_000
MAX_FIELDS = 100


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
    data = _data(request)
    if data is not None:
        found["data"] = data
    if _pii():
        found["cookies"] = dict(request.COOKIES)
        if meta.get("REMOTE_ADDR"):
            found["env"]["REMOTE_ADDR"] = meta["REMOTE_ADDR"]
    return found


def _data(request: HttpRequest) -> Any:
    """The form or JSON body, if the application has read it already; None otherwise."""
    known = request.__dict__
    if known.get("_post"):
        return {**_fields(known["_post"].lists()), **_files(known.get("_files") or {})}
    body = known.get("_body")
    if not isinstance(body, bytes) or not 0 < len(body) <= MAX_BODY:
        return None
    if not (request.content_type or "").endswith("json"):
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _fields(lists: Iterable[tuple[str, list[Any]]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, values in lists:
        if len(found) == MAX_FIELDS:
            break
        texts = [str(value)[:MAX_FIELD] for value in values[:MAX_FIELDS]]
        found[name] = texts[0] if len(texts) == 1 else texts
    return found


def _files(files: Mapping[str, Any]) -> dict[str, str]:
    """Uploads by size only: names and contents are the user's."""
    return {name: f"<file of {files[name].size} bytes>" for name in list(files)[:MAX_FIELDS]}


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
