"""Sentry's interfaces that are read from the local root: request, tags, user, measurements."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from otel_sentry import privacy
from otel_sentry.convention import Description
from otel_sentry.convention.naming import cut
from otel_sentry.sentry.envelope import dumps, plain, plain_data

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

Event = dict[str, Any]

_MAX_TAG = 200
_MAX_QUERY = 1024
_MAX_URL = 2048
_MAX_EVENTS = 10
_MAX_EVENT = 500
#: Names that Sentry reads as fields of the event: as tags they stand beside them (`app.release`).
_RESERVED_TAGS = frozenset(("dist", "environment", "level", "release", "server_name", "transaction", "user"))
_HEADER = "http.request.header."
_TAG = "sentry.tag."
_USER_PERSONAL = {"email": 75, "username": 128, "name": 128, "ip_address": 45}
_MEASUREMENT = re.compile(r"[^a-z0-9._]")
_UNITS = frozenset(
    """
    none nanosecond microsecond millisecond second minute hour day week bit byte kilobyte kibibyte megabyte
    mebibyte gigabyte gibibyte terabyte tebibyte petabyte pebibyte exabyte exbibyte ratio percent
    """.split()  # noqa: SIM905 - a list this long reads better as text
)


def request(attributes: Mapping[str, Any], described: Description, data: Mapping[str, Any], pii: bool) -> Event:
    """Sentry's request interface; *data* is scrubbed, `described.data` is not."""
    found: Event = {}
    method = str(data.get("http.request.method", ""))
    if method.isalpha() and method.isascii():
        found["method"] = method
    host, path = data.get("server.address"), str(data.get("url.path") or "/")
    if isinstance(host, str):
        scheme, port = data.get("url.scheme") or "http", data.get("server.port")
        suffix = "" if port in (None, 80 if scheme == "http" else 443) else f":{port}"
        found["url"] = cut(f"{scheme}://{host}{suffix}{path}", _MAX_URL)
    elif "url.path" in data:
        found["url"] = cut(path, _MAX_URL)
    if query := data.get("url.query"):
        found["query_string"] = cut(str(query), _MAX_QUERY)
    headers = {
        key[len(_HEADER) :].replace("_", "-"): value for key, value in attributes.items() if key.startswith(_HEADER)
    }
    if headers:
        found["headers"] = {
            name: cut(value) for name, value in privacy.scrub_headers(headers, pii=pii).items() if value
        }
    if pii and (address := described.data.get("client.address")):
        found["env"] = {"REMOTE_ADDR": str(address)}
    return found


def add_tags(event: Event, given: Mapping[str, str], attributes: Mapping[str, Any], pii: bool) -> None:
    """The segment's tags and the root's `sentry.tag.*`, as Sentry takes them: one line, not empty."""
    tags: dict[str, Any] = dict(given)
    for key, value in attributes.items():
        if key.startswith(_TAG):
            tags[key[len(_TAG) :]] = value
    if not tags:
        return
    clean = {}
    for key, value in privacy.scrub(tags, pii=pii).items():
        text = cut(" ".join(str(plain(value)).split()), _MAX_TAG)
        name = "_".join(str(key).split())[:_MAX_TAG]
        if text and name:
            clean[f"app.{name}" if name in _RESERVED_TAGS else name] = text
    event["tags"] = clean


def add_user(event: Event, given: Mapping[str, Any] | None, described: Description, pii: bool) -> None:
    """The id always; e-mail, name and address with PII only; what else is known of the user as data."""
    given = given or {"id": described.data.get("user.id")}
    user: Event = {}
    extra: Event = {}
    for key, value in given.items():
        if value is None or value == "":
            continue
        if key == "id":
            user["id"] = cut(str(plain(value)), 128)
        elif key not in _USER_PERSONAL:
            extra[key] = value
        elif pii:
            user[key] = cut(str(plain(value)), _USER_PERSONAL[key])
    if extra and (kept := plain_data(privacy.scrub(extra, pii=pii))):
        user["data"] = kept
    if user:
        event["user"] = user


def add_events(
    data: dict[str, Any], span: ReadableSpan, scrubbed: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> None:
    """Span events as ``otel.events`` in the span's data: texts of JSON, so that every format can hold them.

    Sentry has no place of its own for them, and drops those of OTLP. Measurements are left out, and stack traces:
    an exception that matters is an issue.
    """
    found: list[str] = []
    events = span.events
    for event in events[:_MAX_EVENTS] if events else ():
        attributes = event.attributes or {}
        if "sentry.measurement_value" in attributes:
            continue
        told: dict[str, Any] = {"name": cut(privacy.scrub_text(event.name), _MAX_TAG)}
        told["after_ms"] = round((event.timestamp - (span.start_time or event.timestamp)) / 1e6, 3)
        kept = {key: value for key, value in attributes.items() if key != "exception.stacktrace"}
        told.update(plain_data(scrubbed(kept), _MAX_EVENT))
        found.append(cut(dumps(told).decode(), 2 * _MAX_EVENT))
    if len(events) > _MAX_EVENTS:
        found.append(f"and {len(events) - _MAX_EVENTS} more")
    if found:
        data["otel.events"] = found


def add_measurements(event: Event, root: ReadableSpan) -> None:
    """Span events that carry a measurement, as sentry-javascript reads them."""
    found = {}
    for one in root.events or ():
        attributes = one.attributes or {}
        value = attributes.get("sentry.measurement_value")
        if type(value) in (int, float) and "sentry.measurement_unit" in attributes:
            unit = str(attributes["sentry.measurement_unit"])
            if unit not in _UNITS and not (len(unit) <= 15 and unit.isascii() and unit.isidentifier()):
                unit = "none"
            name = _MEASUREMENT.sub("_", one.name.lower())[:100]
            found[name] = {"value": plain(value), "unit": unit}
    if found:
        event["measurements"] = found
