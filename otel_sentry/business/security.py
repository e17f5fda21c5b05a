"""Security events: a line each of the audit trail, counters, tags, breadcrumbs, and the patterns that they make.

The framework part calls what is here, on the request's thread; nothing waits for a store (`patterns`).

The audit trail is the logger ``otel_sentry.audit``: one JSON object a record, always with the same fields (`FIELDS`).
It is never sampled, and its logger's level does not count, nor ``disable_existing_loggers``: handlers decide. Where
neither it nor a parent has one, the line goes to stderr: an audit trail that nobody has set up is better there than
nowhere. Addresses and the names of accounts are keyed hashes, unless PII is on.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import sys
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from opentelemetry.trace import get_current_span

from otel_sentry import ambient, guard, runtime, signals
from otel_sentry.business import metrics, patterns
from otel_sentry.trace.segment import current_segment

if TYPE_CHECKING:
    from otel_sentry.settings import Settings

LOGGER = logging.getLogger("otel_sentry.audit")
#: Of each audit line, in this order.
FIELDS = ("time", "event", "user_id", "address", "outcome", "trace_id")
_MAX_TEXT = 200

_derived_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class Who:
    """Whom an event is about. *accounts*: the names by which a login was tried; *address*: the client's."""

    user_id: str | None = None
    address: str | None = None
    accounts: tuple[str, ...] = ()


def derive_key(secret: str | bytes) -> None:
    """Hash with a key made of *secret*, the application's own, where `OTEL_SENTRY_AUDIT_KEY` is not set."""
    global _derived_key
    _derived_key = hmac.digest(secret.encode() if isinstance(secret, str) else secret, b"otel-sentry audit", "sha256")


def hashed(text: str) -> str:
    """*text* as 16 hex digits, the same in all processes with the same key."""
    global _derived_key
    current = runtime.get()
    key = current.settings.audit_key.encode() if current is not None and current.settings.audit_key else _derived_key
    if key is None:
        key = _derived_key = os.urandom(32)
    return hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256").hex()[:16]


def account_of(name: str) -> str:
    """The name of an account, as two spellings of it have in common."""
    return unicodedata.normalize("NFKC", name[:_MAX_TEXT]).casefold().strip()


def shown(text: str, settings: Settings) -> str:
    """An address or the name of an account: hashed, unless PII is on."""
    return text if settings.send_default_pii else hashed(text)


@guard.call("security event")
def note(event: str, outcome: str, who: Who, *, bad: bool = True) -> None:
    """An event: its audit line, a breadcrumb, and tags on what the request becomes (attributes of the span).

    Args:
        event: what has happened: "login", "permission_denied".
        outcome: how it went; few different values.
        who: whom it is about.
        bad: logged as a warning?

    """
    current = runtime.get()
    if current is None:
        return
    _audit(event, outcome, who, current.settings, bad=bad)
    tags = {"security.event": event, "security.outcome": outcome}
    get_current_span().set_attributes(tags)
    ambient.crumb("security", f"{event}: {outcome}", "warning" if bad else "info")
    segment = current_segment()
    if segment is not None and (bad or "security.event" not in segment.tags):
        segment.tags.update(tags)


def logged_in(who: Who) -> None:
    """A login that succeeded."""
    metrics.count("auth.login", outcome="ok")
    note("login", "ok", who, bad=False)
    patterns.logged_in(who)


def login_failed(who: Who) -> None:
    """No backend knew the credentials."""
    metrics.count("auth.login", outcome="failed")
    note("login", "failed", who)
    patterns.login_failed(who)


def backend_raised(backend: str, exc: BaseException, who: Who) -> None:
    """An authentication backend raised *exc*: nobody can log in. Its text may hold what the user typed: not told."""
    from otel_sentry.business.alerts import alert_manager

    metrics.count("auth.login", outcome="error")
    note("login", "error", who)
    alert_manager.trigger_business_alert(
        "authentication_failures",
        "critical",
        f"Authentication system failure: {backend} raised {type(exc).__name__}",
        {"backend": backend, "error": type(exc).__name__},
    )


def suspicious(kind: str, who: Who) -> None:
    """The framework refused a request as suspicious; *kind* is the exception's class."""
    note("suspicious_operation", kind, who)
    patterns.watch("suspicious_operations", patterns.by_address(who))


def forbidden(who: Who) -> None:
    """A request was answered with 403, or with 401 for its token."""
    patterns.watch("forbidden_burst", patterns.by_user(who))


def not_found(who: Who) -> None:
    """A request was answered with 404: no event, but many of them are a pattern."""
    patterns.watch("not_found_burst", patterns.by_user(who))


def incident(kind: str, who: Who) -> None:
    """A pattern has broken out: counted, and a line of the audit trail. In the context of the event that did it."""
    current = runtime.get()
    if current is not None:
        metrics.count("security.incident", kind=kind)
        _audit("incident", kind, who, current.settings, bad=True)


def _audit(event: str, outcome: str, who: Who, settings: Settings, *, bad: bool) -> None:
    place = get_current_span().get_span_context()
    user_id = who.user_id
    if user_id is None and who.accounts:
        user_id = f"account:{shown(who.accounts[0], settings)}"
    values = (
        datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        event,
        user_id,
        shown(who.address, settings) if who.address else None,
        outcome,
        f"{place.trace_id:032x}" if place.is_valid else None,
    )
    _write(json.dumps(dict(zip(FIELDS, values, strict=True))), logging.WARNING if bad else logging.INFO)


def _write(line: str, level: int) -> None:
    record = LOGGER.makeRecord(LOGGER.name, level, __file__, 0, line, (), None, "audit")
    passed = LOGGER.filter(record)
    if not passed:
        return
    record = passed if isinstance(passed, logging.LogRecord) else record
    if LOGGER.hasHandlers():
        LOGGER.callHandlers(record)
        return
    if signals.take_logs():
        signals.on_record(record)
    try:
        sys.stderr.write(line + "\n")
    except (OSError, ValueError, AttributeError, RuntimeError):  # closed, missing, or interrupted in a write
        pass
