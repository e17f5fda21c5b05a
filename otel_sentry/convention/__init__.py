"""OpenTelemetry's spans in Sentry's words: tables and pure functions.

`describe` says what a finished span is, `describe_start` what can be known of it when it begins, `explain` which rules
said so. None of them imports sentry_sdk or the OpenTelemetry SDK: a span is anything with `name`, `kind`, `attributes`,
`status`, `instrumentation_scope` and `events`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from opentelemetry.trace import SpanKind, StatusCode

from otel_sentry.convention.attributes import canonical
from otel_sentry.convention.families import family_of, meaning_of
from otel_sentry.convention.naming import cut
from otel_sentry.convention.origin import clean_origin, origin_of
from otel_sentry.convention.status import Facts, status_and_step, status_of
from otel_sentry.convention.view import View

__all__ = ["Description", "Explanation", "describe", "describe_start", "explain"]

_KINDS = {
    SpanKind.SERVER: "server",
    SpanKind.CLIENT: "client",
    SpanKind.PRODUCER: "producer",
    SpanKind.CONSUMER: "consumer",
}
_SOURCES = frozenset(("custom", "url", "route", "view", "component", "task"))
_NAME_OVERRIDES = ("sentry.name", "sentry.custom_span_name")
_SOURCE_OVERRIDES = ("sentry.segment.name.source", "sentry.span.source", "sentry.source")
_OVERRIDES = ("sentry.op", *_NAME_OVERRIDES, "sentry.description", *_SOURCE_OVERRIDES, "sentry.origin", "sentry.status")


class Description(NamedTuple):
    """A span in Sentry's words. *name* and *source* are those of a transaction; *data* is not scrubbed."""

    op: str | None
    description: str | None
    name: str
    source: str
    origin: str
    status: str
    data: dict[str, Any]


def describe(span: Any, *, is_root: bool, style: str = "otel") -> Description:
    """What *span* (a ReadableSpan, or a live SDK span) is to Sentry.

    Args:
        span: the span; attributes, scope, status and events may be None.
        is_root: is it the local root (it then names a transaction)?
        style: `otel` or `sentry`: how Django's transactions are named.

    Returns:
        op, description, name, source, origin, status and data, each overridable by its `sentry.*` attribute.

    """
    view, origin = _view(span, is_root, style)
    op, text, name, source = meaning_of(view)
    data, folded = view.data, view.folded
    kind: Any = view.kind
    facts = _facts(span, view)
    if facts.failed and (message := facts.message):
        data["sentry.status.message"] = cut(str(message), 1024)
        if kind is SpanKind.CLIENT and "http.request.method" in data and "http.response.status_code" not in data:
            # A request that got no answer: only stable conventions name the exception.
            data.setdefault("error.type", str(message).partition(":")[0][:100])
    status = status_of(facts)
    if (kind_name := _KINDS.get(kind)) is not None:
        data["sentry.kind"] = kind_name
    if folded:
        op, text, name, source = _overridden(folded, op, text, name, source)
        if isinstance(given := folded.get("sentry.origin"), str):
            origin = clean_origin(given)
    return Description(op, text, name, source, origin, status, data)


def _view(span: Any, is_root: bool, style: str) -> tuple[View, str]:
    scope = span.instrumentation_scope
    origin, library = origin_of(scope.name or "" if scope is not None else "")
    data, folded = canonical(span.attributes, span.kind)
    return View(span.name or "", span.kind, data, folded, library, is_root, style), origin


def _facts(span: Any, view: View) -> Facts:
    state = span.status
    code = state.status_code if state is not None else None
    failed = code is StatusCode.ERROR
    # The SDK builds a tuple whenever events are asked for.
    events = (span.events or ()) if failed else ()
    message = state.description if state is not None else None
    return Facts(code, failed, message, view.data, view.folded.get("sentry.status"), events)


class Explanation(NamedTuple):
    """Which rules made a span what it is to Sentry; its text says it in words.

    *rule* is the row of the table of families, *because* when that row holds, *status_rule* the step that gave the
    status, *overrides* the `sentry.*` attributes that won over the rules.
    """

    rule: str
    because: str
    op: str | None
    description: str | None
    name: str
    source: str
    origin: str
    status: str
    status_rule: str
    overrides: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"rule         {self.rule} ({self.because})",
            f"op           {self.op or 'default'}",
            f"description  {self.description}",
            f"name         {self.name} (source {self.source})",
            f"origin       {self.origin}",
            f"status       {self.status} (by {self.status_rule})",
        ]
        if self.overrides:
            lines.append(f"overridden   by {', '.join(self.overrides)}")
        return "\n".join(lines)


def explain(span: Any, *, is_root: bool, style: str = "otel") -> Explanation:
    """Which rules fire for *span*, finished or live; the arguments are those of `describe`."""
    found = describe(span, is_root=is_root, style=style)
    view, _ = _view(span, is_root, style)
    family = family_of(view)
    facts = _facts(span, view)
    overrides = tuple(key for key in _OVERRIDES if key in view.folded)
    return Explanation(family.name, family.because, *found[:6], status_and_step(facts)[1], overrides)


def describe_start(
    name: str, kind: SpanKind | None, attributes: Mapping[str, Any] | None, style: str = "otel"
) -> tuple[str, str | None, str]:
    """Transaction name, op and source as far as a sampler can know them."""
    data, folded = canonical(attributes, kind)
    op, text, full, source = meaning_of(View(name or "", kind, data, folded, "", True, style))
    if folded:
        op, text, full, source = _overridden(folded, op, text, full, source)
    return full, op, source


def _overridden(
    folded: Mapping[str, Any], op: str | None, text: str | None, name: str, source: str
) -> tuple[str | None, str | None, str, str]:
    """The user's own `sentry.*` attributes, field by field. A given name is `custom` unless they say else."""
    get = folded.get
    if isinstance(given := get("sentry.op"), str):
        op = given
    for key in _NAME_OVERRIDES:
        if isinstance(given := get(key), str) and given:
            text, name, source = given, given, "custom"
            break
    if isinstance(given := get("sentry.description"), str):
        text = given
    for key in _SOURCE_OVERRIDES:
        if isinstance(given := get(key), str) and given in _SOURCES:
            source = given
            break
    return op, text, name, source
