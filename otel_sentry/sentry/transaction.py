"""A segment as a Sentry transaction: one envelope, straight to JSON bytes. Runs on the sender's thread.

sentry_sdk's recursive serializer is not on this path; what users hook into it (event processors,
`before_send_*`) still runs, through `Common`.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from otel_sentry import counters, guard, privacy
from otel_sentry._version import __version__
from otel_sentry.convention import Description, describe
from otel_sentry.convention.naming import MAX_NAME, MAX_TEXT, cut
from otel_sentry.copies import copied
from otel_sentry.sentry.envelope import MAX_SPAN_TEXT, Envelope, envelope, plain, plain_data
from otel_sentry.sentry.interfaces import add_events, add_measurements, add_tags, add_user, request
from otel_sentry.sentry.profiling import add_to as add_profile
from otel_sentry.sentry.trim import choose, fit, nearest

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_sentry.trace.segment import Segment

__all__ = ["SDK", "Common", "Envelope", "encode", "encode_all"]

Event = dict[str, Any]
Hook = Callable[[Event, dict[str, Any]], "Event | None"]

SDK: Mapping[str, str] = {"name": "sentry.python.otel_sentry", "version": __version__}

# Relay keeps 8 KiB of one context and silently drops the fields behind, links among them.
_CONTEXT_TEXT = 5 * 1024
_RESOURCE_VALUE = 200


@dataclass(slots=True)
class Common:
    """What all transactions of a process share.

    Attributes:
        scrub: span attributes -> attributes to send; None: `privacy.scrub` with *pii*.
        max_bytes: of one transaction's JSON; Sentry refuses 1 MiB.
        format: `transaction`, `span` or `otlp`, in which segments leave (`otel_sentry.sentry.formats`).
        overflow: what does not fit into a transaction leaves as span-v2 items.
        before_send_transaction: the user's hook; one that raises loses the item (decision 8).
        apply_scope: sentry_sdk's scope data and event processors; None from it drops the transaction.

    """

    release: str | None = None
    environment: str | None = None
    server_name: str | None = None
    dist: str | None = None
    sdk: Mapping[str, str] = field(default_factory=lambda: SDK)
    resource: Mapping[str, Any] = field(default_factory=dict)
    style: str = "otel"
    pii: bool = False
    max_spans: int = 1000
    max_bytes: int = 900_000
    format: str = "transaction"
    overflow: bool = False
    scrub: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    before_send_transaction: Hook | None = None
    apply_scope: Callable[[Segment, Event], Event | None] | None = None

    @property
    def takes_all(self) -> bool:
        """Is there room for every span of a segment?"""
        return self.overflow or self.format != "transaction"

    def scrubbed(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """*data* without secrets, and without personal data unless *pii*."""
        return privacy.scrub(data, pii=self.pii) if self.scrub is None else self.scrub(data)


def encode(segment: Segment, common: Common) -> Envelope | None:
    """The envelope of a segment whose root has ended. None when a hook dropped it, which is counted here.

    A segment with `late_of` set holds what ended after its own root was sent: marked, its parent kept.
    """
    if segment.root is None:
        counters.lost("buffer_overflow", "span", len(segment.spans))
        return None
    event = prepared(segment, common)
    if event is None:
        return None
    made, rest = _transaction(segment, event, common)
    counters.lost("buffer_overflow", "span", len(rest))
    return made


def encode_all(segment: Segment, common: Common) -> list[Envelope]:
    """All that a segment holds, overflow included; where the root is missing each orphan is a root."""
    made: list[Envelope] = []
    for part in parts(segment):
        event = prepared(part, common)
        if event is None:
            continue
        one, rest = _transaction(part, event, common)
        made.append(one)
        if rest and common.overflow:
            from otel_sentry.sentry import span_v2

            made += span_v2.encode_overflow(part, event, rest, common)
        else:
            counters.lost("buffer_overflow", "span", len(rest))
    return made


def _transaction(segment: Segment, event: Event, common: Common) -> tuple[Envelope, list[Event]]:
    """The envelope, and the spans that did not fit."""
    body, rest = fit(event, common.max_bytes, common.max_spans if common.overflow else None)
    made = envelope(
        "transaction",
        body,
        (("transaction", 1), ("span", len(event.get("spans") or ()) + 1)),
        event_id=event.get("event_id"),
        trace=dsc_header(segment),
        sdk=common.sdk,
    )
    return made, rest


def prepared(segment: Segment, common: Common) -> Event | None:
    """The segment's event after the hooks, with all spans that there is room for; None: dropped, and counted."""
    assert segment.root is not None, "see `parts`"
    event, overflow = _event(segment, segment.root, common)
    counters.lost("buffer_overflow", "span", overflow)
    return _hooked(segment, event, common)


def parts(segment: Segment) -> Iterable[Segment]:
    """The segment, or where its root is missing one for each orphan: each has a root."""
    return (segment,) if segment.root is not None else _orphans(segment)


def _orphans(segment: Segment) -> list[Segment]:
    """Each span whose parent is not in the segment becomes the root of a part of its own."""
    by_id = {span.context.span_id: span for span in segment.spans}
    parents = {key: span.parent.span_id for key, span in by_id.items() if span.parent is not None}
    heads = {key for key in by_id if parents.get(key) not in by_id}
    members: dict[int, list[ReadableSpan]] = {key: [] for key in heads}
    for key, span in by_id.items():
        if key not in heads:
            members.setdefault(nearest(parents[key], heads, parents, 0), []).append(span)
    counters.lost("buffer_overflow", "span", len(members.get(0, ())))  # a circle: no span of it is a root
    made = []
    for key in heads:
        part = copy.copy(segment)
        part.span_id = key
        part.root = by_id[key]
        part.parent_span_id = parents.get(key)
        part.spans = type(segment.spans)(members[key])
        made.append(part)
    return made


# The event


def _event(segment: Segment, root: ReadableSpan, common: Common) -> tuple[Event, int]:
    described = describe(root, is_root=True, style=common.style)
    attributes = copied(root.attributes)
    data = common.scrubbed(described.data)
    add_events(data, root, common.scrubbed)
    trace_id = format(segment.trace_id, "032x")
    spans, overflow = _children(segment, root.context.span_id, common, trace_id)
    links = _links(root, common)
    trace = _span_fields(root, described, plain_data(data, _CONTEXT_TEXT if links else MAX_SPAN_TEXT), trace_id)
    text = trace.pop("description")
    if "db.system" in data and text:
        trace["data"]["db.query.text"] = text  # a root has no description of its own
    if links:
        trace["links"] = links
    if segment.kept:
        trace["client_sample_rate"] = 1.0
    parent = root.parent
    trace["parent_span_id"] = format(parent.span_id, "016x") if parent is not None else None
    start, end = trace.pop("start_timestamp"), trace.pop("timestamp")
    _mark(segment, root, trace["data"], overflow)
    event: Event = {
        "event_id": uuid.uuid4().hex,
        "type": "transaction",
        "transaction": cut(_text(described.name, described.source, common), MAX_NAME) or "<unlabeled transaction>",
        "transaction_info": {"source": described.source},
        "start_timestamp": start,
        "timestamp": end,
        "contexts": {"trace": trace},
        "spans": spans,
        "platform": "python",
        "sdk": common.sdk,
    }
    for key in ("release", "environment", "server_name", "dist"):
        value = getattr(common, key)
        if value:
            event[key] = value
    _add_contexts(event["contexts"], trace["data"], described, common)
    if described.op == "http.server":
        event["request"] = request(attributes, described, data, common.pii)
    add_tags(event, segment.tags, attributes, common.pii)
    add_user(event, segment.user, described, common.pii)
    add_measurements(event, root)
    if segment.profile is not None:
        add_profile(event, segment.profile)
    return event, overflow


def _span_fields(span: ReadableSpan, described: Description, data: dict[str, Any], trace_id: str) -> Event:
    start = span.start_time or span.end_time or 0
    end = span.end_time or start
    fields: Event = {
        "trace_id": trace_id,
        "span_id": format(span.context.span_id, "016x"),
        "description": described.description,
        "start_timestamp": start // 1000 / 1e6,
        "timestamp": (end if end > start else start) // 1000 / 1e6,
        "status": described.status,
        "origin": described.origin,
        "data": data,
    }
    if described.op:
        fields["op"] = described.op[:128]
    return fields


def _children(segment: Segment, root_id: int, common: Common, trace_id: str) -> tuple[list[Event], int]:
    """The spans below the root, and how many there was no room for."""
    spans = [span for span in segment.spans if span.context.span_id != root_id]
    chosen = spans if common.takes_all else choose(spans, common.max_spans)
    if not chosen:
        return [], len(spans)
    kept = {span.context.span_id for span in chosen}
    kept.add(root_id)
    # Below an unfinished span, which is left out until it ends, children hang on its nearest finished ancestor.
    parents = {key: parent for key, parent in segment.open.items() if parent is not None}
    parents |= {span.context.span_id: span.parent.span_id for span in spans if span.parent is not None}
    encoded = []
    for span in chosen:
        described = describe(span, is_root=False, style=common.style)
        data = common.scrubbed(described.data)
        add_events(data, span, common.scrubbed)
        fields = _span_fields(span, described, plain_data(data), trace_id)
        fields["description"] = _text(described.description or "", described.source, common)
        parent = span.parent.span_id if span.parent is not None else root_id
        if not segment.parts:  # else the parent may have left before
            parent = nearest(parent, kept, parents, root_id)
        fields["parent_span_id"] = format(parent, "016x")
        if links := _links(span, common):
            fields["links"] = links
        encoded.append(fields)
    return encoded, len(spans) - len(chosen)


def _text(text: str, source: str, common: Common) -> str:
    """Names that users chose are the only texts that no rule of a family has been through yet."""
    if source == "custom":
        text = privacy.scrub_text(text, pii=common.pii)
    return text if len(text) <= MAX_TEXT else cut(text)


def _links(span: ReadableSpan, common: Common) -> list[Event]:
    return [
        {
            "trace_id": format(link.context.trace_id, "032x"),
            "span_id": format(link.context.span_id, "016x"),
            "sampled": bool(link.context.trace_flags & 1),
            **({"attributes": plain_data(common.scrubbed(link.attributes))} if link.attributes else {}),
        }
        for link in span.links or ()
    ]


def _mark(segment: Segment, root: ReadableSpan, data: dict[str, Any], overflow: int) -> None:
    """Facts about the segment that are no attributes of its root."""
    scope = root.instrumentation_scope
    if scope is not None and scope.name:
        data["otel.scope.name"] = scope.name
        if scope.version:
            data["otel.scope.version"] = scope.version
    remote, rate = segment.remote, segment.decision.sample_rate
    if segment.kept:
        data["sentry.sample_rate"] = 1.0
    elif rate is not None and (remote is None or remote.sampled is None):
        data["sentry.sample_rate"] = rate
    if segment.unfinished:
        data["sentry.unfinished"] = True
    if segment.open:
        data["sentry.unfinished_spans"] = len(segment.open)
    if segment.late_of is not None:
        data["sentry.parent_span_already_sent"] = True
    if dropped := overflow + segment.dropped:
        data["sentry.dropped_span_count"] = dropped


def _add_contexts(contexts: Event, data: Mapping[str, Any], described: Description, common: Common) -> None:
    resource, room = {}, _CONTEXT_TEXT
    for key, value in common.resource.items():
        value = plain(value)
        value = cut(value, _RESOURCE_VALUE) if isinstance(value, str) else value
        room -= len(key) + (len(value) if isinstance(value, (str, list)) else 8)
        if room < 0:
            break
        resource[key] = value
    if resource:
        contexts["otel"] = {"resource": resource}
    code = data.get("http.response.status_code")
    if described.op == "http.server" and type(code) is int:
        contexts["response"] = {"status_code": code}
        size = data.get("http.response.body.size")
        if type(size) is int and size >= 0:
            contexts["response"]["body_size"] = size


# Hooks


def _hooked(segment: Segment, event: Event, common: Common) -> Event | None:
    """The event after scope data and the user's hook; None when it is not to be sent, which is counted."""
    count = len(event["spans"])
    before_send = common.before_send_transaction
    if common.apply_scope is None and before_send is None:
        return event
    result: Event | None = event
    at_stake = [("span", count + (not segment.is_part))]
    if common.format == "transaction" and not segment.is_part:
        at_stake.append(("transaction", 1))
    if common.apply_scope is not None:
        result = _run("scope data", partial(common.apply_scope, segment, event), "event_processor", at_stake)
    if result is not None and before_send is not None:
        result = _run("before_send_transaction", partial(before_send, result, {}), "before_send", at_stake)
    if result is None:
        return None
    counters.lost("before_send", "span", count - len(result.get("spans") or ()))
    cleaned: Event = plain(result, depth=-8)
    return cleaned


def _run(where: str, call: Callable[[], Any], reason: str, at_stake: list[tuple[str, int]]) -> Event | None:
    """One hook. One that raises loses the item: it is often the scrubber."""
    failed = True
    result: Any = None
    with guard.block(where):
        result = call()
        failed = False
    if isinstance(result, dict):
        return result
    if failed or result is not None:
        reason = "callback_error"
    for category, quantity in at_stake:
        counters.lost(reason, category, quantity)
    return None


def dsc_header(segment: Segment) -> dict[str, str] | None:
    """The dynamic sampling context, for the envelope's header."""
    from otel_sentry.trace.dsc import dsc_of

    found: dict[str, str] | None = None
    with guard.block("dynamic sampling context"):
        found = dsc_of(segment)
    if found and segment.kept:  # its weight; what was passed on to other services stays the head's decision
        found = {**found, "sample_rate": "1", "sampled": "true"}
    return found
