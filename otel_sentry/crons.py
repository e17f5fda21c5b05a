"""Check-ins of periodic tasks (Sentry Crons): the seam that frameworks call. Loads no sentry_sdk.

Names and limits are those of Sentry's intake (develop docs, "Check-Ins"; Relay's crate ``relay-monitors``).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from otel_sentry import guard, runtime

IN_PROGRESS, OK, ERROR = "in_progress", "ok", "error"

_MAX_SLUG = 50
_UNITS = (("week", 7 * 86400), ("day", 86400), ("hour", 3600), ("minute", 60))


def slug_of(name: str) -> str:
    """The monitor's slug, the one that Sentry itself makes of *name*; longer ones keep apart by a hash."""
    text = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    slug = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text.lower())).strip("-_")
    if slug and len(slug) <= _MAX_SLUG:
        return slug
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{slug[: _MAX_SLUG - 9].rstrip('-_')}-{digest}".lstrip("-")


def interval(seconds: float) -> dict[str, Any]:
    """A schedule of every *seconds*.

    Raises:
        ValueError: Sentry can't express it; its smallest unit is the minute.

    """
    whole = int(seconds)
    if whole == seconds and whole > 0:
        for unit, size in _UNITS:
            if whole % size == 0:
                return {"type": "interval", "value": whole // size, "unit": unit}
    raise ValueError(f"every {seconds:g} s is no whole number of minutes")


def is_excluded(name: str) -> bool:
    """Does a setting leave the monitor *name* out (`OTEL_SENTRY_CRONS`, `OTEL_SENTRY_CRONS_EXCLUDE`)?"""
    from otel_sentry.trace.dsc import current_settings

    settings = current_settings()
    return not settings.crons or any(re.search(pattern, name) for pattern in settings.crons_exclude)


@guard.call("check-in")
def check_in(
    slug: str,
    status: str,
    check_in_id: str,
    *,
    config: Mapping[str, Any] | None = None,
    duration_s: float | None = None,
) -> None:
    """Tell Sentry how a run of a monitor goes; joined to the current trace.

    Args:
        slug: the monitor (`slug_of`).
        status: `IN_PROGRESS`, `OK` or `ERROR`.
        check_in_id: 32 hex digits, the same for all check-ins of one run.
        config: ``{"schedule": ..., "timezone": ...}``: the monitor is made, or changed, to match.
        duration_s: how long the run took; without it Sentry counts from the first check-in.

    """
    current = runtime.get()
    if current is None or current.sender is None or current.dsn is None or not current.settings.crons:
        return
    from otel_sentry.sentry import crons

    crons.send(current, slug, status, check_in_id, config, duration_s)
