"""User journeys across requests: the session keeps which one it is."""

from __future__ import annotations

import functools
import weakref
from typing import Any

from django.http import HttpRequest

from otel_sentry.ambient.journey import Here


def of(request: HttpRequest) -> Here:
    """The journeys of *request*. It holds the request by a weak reference only."""
    return Here(session=functools.partial(_session, weakref.ref(request)))


def _session(request: weakref.ref[HttpRequest]) -> Any:
    """The session, if the application uses it: loaded, so that reading costs no query, and not empty, so that a visitor
    without one gets none because of us."""
    known = request()
    session = known.__dict__.get("session") if known is not None else None
    if session is None or "_session_cache" not in session.__dict__ or session.is_empty():
        return None
    return session
