"""A Sentry error event without secrets. Ids, trace structure, sdk, release and modules are never touched."""

# ruff: noqa: SIM905 (word lists read better as text)

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from otel_sentry.privacy.attributes import Walk, scrub
from otel_sentry.privacy.sql import scrub_redis, scrub_sql
from otel_sentry.privacy.tokens import FILTERED
from otel_sentry.privacy.urls import scrub_headers, scrub_path, scrub_query, scrub_url
from otel_sentry.privacy.values import scrub_code, scrub_text

_UNTOUCHED = frozenset(
    """
    event_id timestamp start_timestamp received platform level logger type version sdk release dist
    environment server_name modules debug_meta measurements transaction_info profile trace _meta
    _metrics_summary sdkProcessingMetadata
    """.split()
)
_PERSONAL_USER = (
    "email",
    "username",
    "ip_address",
    "name",
    "full_name",
    "first_name",
    "last_name",
    "geo",
    "phone",
)
_CODE = ("context_line", "pre_context", "post_context")
_SQL_VARS = ("sql", "query", "statement", "operation", "stmt")
_PARAMETER_VARS = frozenset(
    ("params", "parameters", "param_list", "multiparams", "vars_list", "args", "seq_of_parameters", "values", "binds")
)
# A statement among a frame's variables, as text or as its repr.
_STATEMENT = re.compile(
    r"""[bu]?["']?[\s(]{0,8}(?:(?:\\n|/\*|--)[^'"]{0,200})?(?:SELECT|INSERT|UPDATE|DELETE|MERGE|REPLACE|WITH|CALL|EXEC|EXECUTE"""
    r"""|CREATE|ALTER|GRANT|COPY|SET|VALUES|EXPLAIN|DECLARE)\s""",
    re.IGNORECASE,
)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}
_ESCAPES = re.compile(r"\\([\\'\"nrt])")


def scrub_event(event: dict[str, Any], *, pii: bool = False) -> dict[str, Any]:
    """Scrub `event` in place and return it. Parts of an unknown shape are walked as plain data."""
    walk = Walk(pii)
    for key, value in list(event.items()):
        if key in _UNTOUCHED or value is None:
            continue
        part = _PARTS.get(key)
        event[key] = part(value, walk) if part is not None else walk.value(value)
    return event


def _mapping(value: Any, walk: Walk) -> Any:
    return walk.mapping(value, 1) if isinstance(value, Mapping) else walk.value(value)


def _request(request: Any, walk: Walk) -> Any:
    if not isinstance(request, dict):
        return walk.value(request)
    out: dict[str, Any] = {}
    for key, value in request.items():
        part = _REQUEST_PARTS.get(key)
        out[key] = part(value, walk) if part is not None else walk.value(value)
    return out


def _url(value: Any, walk: Walk) -> Any:
    return scrub_url(value, pii=walk.pii) if isinstance(value, str) else walk.value(value)


def _query_string(value: Any, walk: Walk) -> Any:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return scrub_query(value, pii=walk.pii) if isinstance(value, str) else walk.value(value)


def _headers(value: Any, walk: Walk) -> Any:
    if isinstance(value, Mapping):
        return scrub_headers(value, pii=walk.pii)
    if isinstance(value, (list, tuple)) and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in value):
        return [[name, scrub_headers({name: item}, pii=walk.pii)[str(name)]] for name, item in value]
    return FILTERED


def _cookies(value: Any, walk: Walk) -> Any:
    # Every cookie may be a session under another name; with PII the harmless names keep their values.
    if not isinstance(value, Mapping):
        return FILTERED
    return walk.mapping(value, 1) if walk.pii else dict.fromkeys(value, FILTERED)


def _environ(value: Any, walk: Walk) -> Any:
    if not isinstance(value, Mapping):
        return walk.value(value)
    kept = {k: v for k, v in value.items() if walk.pii or k not in ("REMOTE_ADDR", "REMOTE_USER", "REMOTE_HOST")}
    headers = {k: v for k, v in kept.items() if isinstance(k, str) and k.startswith("HTTP_")}
    out = walk.mapping({k: v for k, v in kept.items() if k not in headers}, 1)
    if isinstance(out.get("QUERY_STRING"), str):
        out["QUERY_STRING"] = scrub_query(kept["QUERY_STRING"], pii=walk.pii)
    return {**out, **scrub_headers(headers, pii=walk.pii)}


def _values(part: Callable[[dict[str, Any], Walk], Any]) -> Callable[[Any, Walk], Any]:
    """A part that Sentry writes either as `{"values": [...]}` or as a plain list."""

    def each(value: Any, walk: Walk) -> Any:
        if isinstance(value, dict) and isinstance(value.get("values"), (list, tuple)):
            return {**value, "values": each(value["values"], walk)}
        if isinstance(value, (list, tuple)):
            return [part(item, walk) if isinstance(item, dict) else walk.value(item) for item in value]
        return part(value, walk) if isinstance(value, dict) else walk.value(value)

    return each


def _exception(item: dict[str, Any], walk: Walk) -> dict[str, Any]:
    out = dict(item)
    for key, value in item.items():
        if key in ("stacktrace", "raw_stacktrace"):
            out[key] = _stacktrace(value, walk)
        elif key not in ("type", "module", "thread_id", "id", "crashed", "current"):
            out[key] = walk.value(value)
    return out


def _stacktrace(value: Any, walk: Walk) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get("frames"), (list, tuple)):
        return walk.value(value)
    return {**value, "frames": [_frame(frame, walk) for frame in value["frames"]]}


def _frame(frame: Any, walk: Walk) -> Any:
    if not isinstance(frame, dict):
        return walk.value(frame)
    out = dict(frame)
    for key in _CODE:
        lines = frame.get(key)
        if isinstance(lines, str):
            out[key] = scrub_code(lines)
        elif isinstance(lines, (list, tuple)):
            out[key] = [scrub_code(line) if isinstance(line, str) else line for line in lines]
    variables = frame.get("vars")
    if isinstance(variables, Mapping):
        out["vars"] = _variables(variables, walk)
    elif variables is not None:
        out["vars"] = walk.value(variables)
    return out


def _variables(variables: Mapping[str, Any], walk: Walk) -> dict[str, Any]:
    out = walk.mapping({name: _without_values(value) for name, value in variables.items()}, 1)
    if any(name in out for name in _SQL_VARS):  # a frame of a database driver: its parameters are the values
        for name in _PARAMETER_VARS.intersection(out):
            out[name] = FILTERED
    return out


def _without_values(value: Any) -> Any:
    """A driver's statement without its literals; what stands beside one in a tuple is its parameters."""
    if isinstance(value, str):
        return _statement(value) if _STATEMENT.match(value) else value
    if isinstance(value, (list, tuple)) and any(isinstance(item, str) and _STATEMENT.match(item) for item in value):
        return [_without_values(item) if isinstance(item, str) else FILTERED for item in value]
    return value


def _statement(text: str) -> str:
    text = text.lstrip("bu") if text[:1] in "bu" and text[1:2] in "\"'" else text
    quote = text[:1]
    if quote not in ("'", '"'):
        return scrub_sql(text)
    inner = _ESCAPES.sub(lambda match: _ESCAPED.get(match[1], match[1]), text[1:].removesuffix(quote))
    return f"{quote}{scrub_sql(inner)}{quote}"


def _logentry(entry: Any, walk: Walk) -> Any:
    if not isinstance(entry, dict):
        return walk.value(entry)
    out: dict[str, Any] = _mapping(entry, walk)
    # "password=%s" with params ["hunter2"]: where the text held a secret, so do its parameters.
    if any(out.get(key) != entry.get(key) for key in ("message", "formatted")) and entry.get("params"):
        out["params"] = (
            FILTERED if not isinstance(entry["params"], (list, tuple)) else [FILTERED] * len(entry["params"])
        )
    return out


def _breadcrumb(crumb: dict[str, Any], walk: Walk) -> dict[str, Any]:
    out = dict(crumb)
    category, message = crumb.get("category"), crumb.get("message")
    if isinstance(message, str):
        if category in ("query", "db", "db.sql.query"):
            message = scrub_sql(message)
        elif category == "redis":
            message = scrub_redis(message)
        out["message"] = scrub_text(message, pii=walk.pii)
    for key, value in crumb.items():
        if key not in ("message", "category", "type", "level", "timestamp"):
            out[key] = walk.ruled_item(key, value)
    return out


def _contexts(contexts: Any, walk: Walk) -> Any:
    if not isinstance(contexts, dict):
        return walk.value(contexts)
    out: dict[str, Any] = {}
    for name, value in contexts.items():
        if name == "trace":
            out[name] = _span(value, walk)
        elif name in ("runtime", "os", "device", "profile"):
            out[name] = value
        else:
            out[name] = _mapping(value, walk)
    return out


def _span(span: Any, walk: Walk) -> Any:
    """A span, or the trace context: only data, tags and description can hold what a user wrote."""
    if not isinstance(span, dict):
        return span
    out = dict(span)
    if isinstance(span.get("data"), Mapping):
        out["data"] = scrub(span["data"], pii=walk.pii)
    if span.get("tags") is not None:
        out["tags"] = _mapping(span["tags"], walk)
    description, op = span.get("description"), span.get("op")
    if isinstance(description, str):
        if isinstance(op, str) and op.startswith("db"):
            description = scrub_redis(description) if op == "db.redis" else scrub_sql(description)
        out["description"] = scrub_text(description, pii=walk.pii)
    return out


def _user(user: Any, walk: Walk) -> Any:
    if not isinstance(user, Mapping):
        return walk.value(user)
    return walk.mapping({k: v for k, v in user.items() if walk.pii or k not in _PERSONAL_USER}, 1)


def _transaction(name: Any, walk: Walk) -> Any:
    return scrub_path(name, pii=walk.pii) if isinstance(name, str) else walk.value(name)


_REQUEST_PARTS: dict[str, Callable[[Any, Walk], Any]] = {
    "url": _url,
    "query_string": _query_string,
    "headers": _headers,
    "cookies": _cookies,
    "env": _environ,
    "method": lambda value, walk: value,
}
_PARTS: dict[str, Callable[[Any, Walk], Any]] = {
    "request": _request,
    "exception": _values(_exception),
    "threads": _values(_exception),
    "stacktrace": _stacktrace,
    "logentry": _logentry,
    "breadcrumbs": _values(_breadcrumb),
    "extra": _mapping,
    "tags": _mapping,
    "contexts": _contexts,
    "user": _user,
    "spans": _values(_span),
    "transaction": _transaction,
}
