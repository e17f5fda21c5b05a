"""A segment to Sentry's own OTLP intake: OpenTelemetry's encoding, our sender.

The spans have the words of span v2 (`span_v2.spans_of`), so that Sentry need not guess them. They are posted by the
sender and not by OpenTelemetry's HTTP exporter, since that one (1.45) adds what `OTEL_EXPORTER_OTLP_HEADERS`,
`..._CERTIFICATE` and `..._CLIENT_KEY` say for another backend to what it is given; and so an outage, a fork, a proxy or
a rate limit is dealt with as for envelopes. Sentry's intake drops span events, so that they are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from otel_sentry.sentry.delivery import Target
from otel_sentry.sentry.outgoing import Envelope
from otel_sentry.sentry.span_v2 import PRIVATE, spans_of
from otel_sentry.sentry.transaction import Common, parts
from otel_sentry.sentry.typed import typed

if TYPE_CHECKING:
    from otel_sentry.sentry.dsn import Dsn
    from otel_sentry.trace.segment import Segment

#: `Envelope.via` of what this module makes.
VIA = "otlp"
#: Spans of one request, as the SDK's batch processor has it.
MAX_SPANS = 512
_KEPT = TraceFlags(TraceFlags.SAMPLED)


def installed() -> bool:
    """Is OpenTelemetry's OTLP encoder there?"""
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.common") is not None
    except ModuleNotFoundError:
        return False


def target(dsn: Dsn) -> Target:
    """The OTLP intake that *dsn* implies, with Sentry's header and no other."""
    headers = {"x-sentry-auth": f"sentry sentry_key={dsn.public_key}", "Content-Type": "application/x-protobuf"}
    return Target(dsn.otlp_traces_url, headers, primary=True, via=VIA)


def encode_otlp(segment: Segment, common: Common) -> list[Envelope]:
    """The segment as OTLP requests; empty when a hook dropped it, which is counted."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    resource = Resource({key: value for key, value in common.scrubbed(common.resource).items() if key not in PRIVATE})
    made = []
    for part in parts(segment):
        spans = [_readable(item, original, resource) for item, original in _pairs(part, common)]
        for start in range(0, len(spans), MAX_SPANS):
            chunk = spans[start : start + MAX_SPANS]
            made.append(Envelope(encode_spans(chunk).SerializeToString(), (("span", len(chunk)),), VIA))
    return made


def _pairs(segment: Segment, common: Common) -> Iterator[tuple[Mapping[str, Any], ReadableSpan]]:
    finished: Sequence[ReadableSpan] = [*segment.spans, *((segment.root,) if segment.root is not None else ())]
    originals = {format(span.context.span_id, "016x"): span for span in finished if span.context is not None}
    for item in spans_of(segment, common):
        if (original := originals.get(item["span_id"])) is not None:
            yield item, original


def _readable(item: Mapping[str, Any], original: ReadableSpan, resource: Resource) -> ReadableSpan:
    """*original* in the words of *item*, without trace state, events, and what is Sentry's SDKs' own affair."""
    attributes = _plain({**item["shared"], **item["attributes"]})
    trace_id = int(item["trace_id"], 16)
    parent = None
    if above := item.get("parent_span_id"):
        remote = original.parent is not None and original.parent.is_remote
        parent = SpanContext(trace_id, int(above, 16), remote, _KEPT)
    failed = item["status"] == "error"
    message = attributes.get("sentry.status.message") if failed else None
    return ReadableSpan(
        name=item["name"],
        context=SpanContext(trace_id, int(item["span_id"], 16), False, _KEPT),
        parent=parent,
        resource=resource,
        attributes=attributes,
        links=[_link(link) for link in item.get("links") or ()],
        kind=original.kind,
        status=Status(StatusCode.ERROR, str(message) if message else None) if failed else Status(StatusCode.UNSET),
        start_time=original.start_time,
        end_time=max(original.end_time or 0, original.start_time or 0),
        instrumentation_scope=original.instrumentation_scope,
    )


def _link(link: Mapping[str, Any]) -> Link:
    flags = TraceFlags(TraceFlags.SAMPLED if link.get("sampled") else TraceFlags.DEFAULT)
    context = SpanContext(int(link["trace_id"], 16), int(link["span_id"], 16), True, flags)
    return Link(context, _plain(link.get("attributes") or {}))


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What OTLP can hold: primitives and lists of one kind."""
    return {key: one["value"] for key, one in typed(attributes).items()}
