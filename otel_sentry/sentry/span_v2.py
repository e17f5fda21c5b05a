"""Sentry's span v2: a segment as single spans, in envelopes of their own. Runs on the sender's thread.

Spans are described, scrubbed and hooked exactly as for a transaction (`transaction.prepared`) and only then written
another way, so that both formats tell the same story. Source: develop docs, "Spans" and "Span Buffer" (one trace for
each envelope, at most 1000 items, a `trace` header); names and attributes: `otel_sentry.convention.names_v2`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from otel_sentry import guard
from otel_sentry.convention.names_v2 import attributes_v2, name_v2
from otel_sentry.convention.naming import MAX_NAME, cut
from otel_sentry.sentry.envelope import Envelope, dumps, envelope
from otel_sentry.sentry.transaction import Common, dsc_header, parts, prepared
from otel_sentry.sentry.typed import typed

if TYPE_CHECKING:
    from otel_sentry.trace.segment import Segment

Item = dict[str, Any]

#: Parts of a resource that hold what was typed, secrets among it.
PRIVATE = frozenset({"process.command", "process.command_args", "process.command_line"})
CONTENT_TYPE = "application/vnd.sentry.items.span.v2+json"
#: Relay drops an envelope with more.
MAX_ITEMS = 1000
#: Bytes of one envelope's items: the span buffer's 5 MB; Relay takes 12 MiB.
MAX_BYTES = 5_000_000
_OK = ("ok", "cancelled", None)  # as sentry-javascript's spanJsonToSerializedStreamedSpan
#: Their names are statements or keys: a segment is not called by them either.
_NAMED_BY_TEMPLATE = ("db", "cache")
_USER = {
    "id": "user.id",
    "email": "user.email",
    "username": "user.name",
    "name": "user.name",
    "ip_address": "user.ip_address",
}


def encode_spans(segment: Segment, common: Common) -> list[Envelope]:
    """The segment as span-v2 envelopes; empty when a hook dropped it, which is counted."""
    made: list[Envelope] = []
    for part in parts(segment):
        made += _envelopes(part, spans_of(part, common), common)
    return made


def encode_overflow(segment: Segment, event: Item, spans: Sequence[Item], common: Common) -> list[Envelope]:
    """*spans*, taken out of the transaction *event*, as span-v2 envelopes of the same segment."""
    shared = _shared(event, common)
    shared["sentry.segment.id"] = event["contexts"]["trace"]["span_id"]
    shared["sentry.segment.name"] = event.get("transaction")
    return _envelopes(segment, (_child(span, shared) for span in spans), common)


def encode_part(segment: Segment, common: Common) -> list[Envelope]:
    """The spans that ended so far below a root that has not: all but the root."""
    event = prepared(segment, common)
    return [] if event is None else encode_overflow(segment, event, event.get("spans") or (), common)


def spans_of(segment: Segment, common: Common) -> Iterator[Item]:
    """The spans of a segment that has its root, children first; none when a hook dropped it.

    Their attributes are plain values: `shared`, the same object for all children, and below it `attributes`.
    Of a segment that leaves in parts the root comes with the last of them.
    """
    event = prepared(segment, common)
    if event is None:
        return
    root = _root(event, common, is_segment=segment.late_of is None)
    if segment.late_of is not None:  # a span that ended after its segment had left: simply one more of its spans
        root["attributes"]["sentry.segment.id"] = format(segment.late_of, "016x")
    shared = _shared(event, common)
    for key in ("sentry.trace_lifecycle", "sentry.segment.id", "sentry.segment.name"):
        shared[key] = root["attributes"].get(key)
    for span in event.get("spans") or ():
        yield _child(span, shared)
    if not segment.is_part:
        yield root


# Items


def _child(span: Item, shared: Item) -> Item:
    data = attributes_v2(span.get("data") or {})
    op, text = span.get("op"), span.get("description") or ""
    _describe(data, op, text)
    name = name_v2(op, data) or cut(text, MAX_NAME) or op or "<unlabeled span>"
    if data.get("sentry.description") == name:
        del data["sentry.description"]
    for key in shared.keys() & data.keys():
        if data[key] == shared[key] or key == "sentry.segment.id":
            del data[key]
    return _item(span, name, data, shared, start=span["start_timestamp"], end=span["timestamp"])


def _root(event: Item, common: Common, *, is_segment: bool) -> Item:
    trace = event["contexts"]["trace"]
    op, text = trace.get("op"), event.get("transaction") or ""
    source = (event.get("transaction_info") or {}).get("source", "custom")
    data = attributes_v2(trace.get("data") or {})
    by_template = source == "url" or (op or "").partition(".")[0] in _NAMED_BY_TEMPLATE or not is_segment
    name = (name_v2(op, data) if by_template else "") or text
    _describe(data, op, text)
    if text == name:
        data.pop("sentry.description", None)
    for key, value in _of_segment(event).items():
        data.setdefault(key, value)
    fixed = {"sentry.trace_lifecycle": "stream"}
    if is_segment:
        fixed["sentry.segment.id"] = trace["span_id"]
        fixed["sentry.segment.name"] = name
        fixed["sentry.segment.name.source"] = source if name == text else "custom"
    attributes = {**_shared(event, common), **data, **fixed}
    start, end = event["start_timestamp"], event["timestamp"]
    return _item(trace, name, attributes, {}, is_segment=is_segment, start=start, end=end)


def _item(
    fields: Item, name: str, attributes: Item, shared: Item, *, start: float, end: float, is_segment: bool = False
) -> Item:
    if op := fields.get("op"):
        attributes["sentry.op"] = op
    attributes["sentry.origin"] = fields.get("origin") or "manual"
    item = {
        "trace_id": fields["trace_id"],
        "span_id": fields["span_id"],
        "name": name,
        "status": "ok" if fields.get("status") in _OK else "error",
        "is_segment": is_segment,
        "start_timestamp": start,
        "end_timestamp": end,
        "attributes": attributes,
        "shared": shared,
    }
    if parent := fields.get("parent_span_id"):
        item["parent_span_id"] = parent
    if links := fields.get("links"):
        item["links"] = links
    return item


def _describe(data: Item, op: str | None, text: str) -> None:
    """The description: of a database its statement, else an attribute of its own."""
    if not text:
        return
    if (op or "").partition(".")[0] == "db":
        data.setdefault("db.query.text", text)
    else:
        data["sentry.description"] = text


def _shared(event: Item, common: Common) -> Item:
    """What every span of a segment says."""
    sdk = event.get("sdk") or common.sdk
    shared: Item = {
        "sentry.sdk.name": sdk.get("name"),
        "sentry.sdk.version": sdk.get("version"),
        "sentry.platform": event.get("platform"),
        "sentry.release": event.get("release"),
        "sentry.environment": event.get("environment"),
        "sentry.dist": event.get("dist"),
        "sentry.profiler_id": ((event.get("contexts") or {}).get("profile") or {}).get("profiler_id"),
    }
    for key, value in (event.get("user") or {}).items():
        if key in _USER:
            shared[_USER[key]] = value
    return {key: value for key, value in shared.items() if value is not None}


def _of_segment(event: Item) -> Item:
    """What a transaction says beside its spans: resource, tags, measurements, request headers."""
    resource = ((event.get("contexts") or {}).get("otel") or {}).get("resource") or {}
    found: Item = {key: value for key, value in resource.items() if key not in PRIVATE}
    if host := event.get("server_name"):
        found["server.address"] = host
    for key, value in (event.get("request") or {}).get("headers", {}).items():
        found[f"http.request.header.{key.lower()}"] = [value]
    for key, value in (event.get("measurements") or {}).items():
        found[key] = value.get("value")
    found.update(event.get("tags") or {})
    return found


# Bytes


def _envelopes(segment: Segment, items: Iterable[Item], common: Common) -> list[Envelope]:
    trace = None
    made = []
    for chunk in _chunks(_encoded(items)):
        trace = trace or dsc_header(segment) or _own_dsc(segment)
        body = b'{"version":2,"items":[' + b",".join(chunk) + b"]}"
        made.append(
            envelope(
                "span",
                body,
                (("span", len(chunk)),),
                trace=trace,
                sdk=common.sdk,
                content_type=CONTENT_TYPE,
                item_count=len(chunk),
            )
        )
    return made


def _own_dsc(segment: Segment) -> dict[str, str] | None:
    """A trace that came without a DSC: Relay takes no span v2 without one, so that the envelope gets ours."""
    from otel_sentry.trace.dsc import dsc_without_segment

    found = None
    with guard.block("dynamic sampling context"):
        found = dsc_without_segment(segment.trace_id, segment.decision, None)
    return found


def _chunks(encoded: Iterable[bytes]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    size = 0
    for one in encoded:
        if chunk and (len(chunk) >= MAX_ITEMS or size + len(one) > MAX_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(one)
        size += len(one) + 1
    if chunk:
        yield chunk


def _encoded(items: Iterable[Item]) -> Iterator[bytes]:
    """Each item's JSON. What all spans of a segment say is half of it: written once, and copied."""
    shared: Item = {}
    copied = b""
    for item in items:
        own = item["attributes"]
        if item["shared"] is not shared:
            shared = item["shared"]
            copied = dumps(typed(shared))[1:-1]
        rest = copied
        if not shared.keys().isdisjoint(own):
            rest = dumps(typed({key: value for key, value in shared.items() if key not in own}))[1:-1]
        wire = {key: value for key, value in item.items() if key not in ("shared", "attributes")}
        if "links" in wire:
            wire["links"] = [_link(link) for link in wire["links"]]
        wire["attributes"] = typed(own)  # the last key, and never empty: there is an origin
        text = dumps(wire)
        yield b"".join((text[:-2], b",", rest, b"}}")) if rest else text


def _link(link: Item) -> Item:
    return {**link, "attributes": typed(link["attributes"])} if link.get("attributes") else link
