"""What does not fit into one transaction: chosen by value, with the tree kept whole.

Sentry refuses a transaction past 1 MiB as a whole, and every SDK stops at 1000 spans.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set
from typing import Any, TypeVar

from opentelemetry.trace import StatusCode

from otel_sentry.sentry.envelope import dumps, plain_data

Id = TypeVar("Id", bound=Hashable)

# Room for what is written after the sizes were taken (a count, the item's end).
_RESERVE = 128
# Relay cuts the list of spans past 800 KiB, from its end and without regard for the tree.
_MAX_SPANS_BYTES = 800_000
_TIGHT_TEXT = 4096


def choose(spans: Sequence[Any], limit: int) -> Sequence[Any]:
    """At most *limit* finished spans: failed ones first, then the longest; in the order they came."""
    if len(spans) <= limit:
        return spans
    ranked = sorted(range(len(spans)), key=lambda index: _value(spans[index]), reverse=True)
    return [spans[index] for index in sorted(ranked[:limit])]


def _value(span: Any) -> tuple[bool, int]:
    status = span.status
    failed = status is not None and status.status_code is StatusCode.ERROR
    return failed, (span.end_time or 0) - (span.start_time or 0)


def nearest(parent: Id, kept: Set[Id], parents: dict[Id, Id], root: Id) -> Id:
    """The closest ancestor that is kept, else *root*. Shortens the chains that it walks in *parents*."""
    if parent in kept:
        return parent
    path: list[Id] = []
    found = parent
    while found not in kept:
        path.append(found)
        above = parents.get(found)
        if above is None or len(path) > len(parents):  # not of this segment, or a circle
            found = root
            break
        found = above
    for one in path:
        if one in parents:
            parents[one] = found
    return found


def fit(event: dict[str, Any], max_bytes: int, max_spans: int | None = None) -> tuple[bytes, list[dict[str, Any]]]:
    """The event's JSON in at most *max_bytes* (more if the root alone is larger), and the spans it cost.

    *max_spans* is given where those spans leave in other envelopes: then parents stay as they are, and none is missing.
    """
    spans = event.get("spans") or []
    elsewhere = max_spans is not None
    if max_spans is None or len(spans) <= max_spans:
        body = dumps(event)
        if len(body) <= min(max_bytes, _MAX_SPANS_BYTES):
            return body, []
    event["spans"] = []
    room = max_bytes - len(dumps(event)) - _RESERVE
    if room < max_bytes // 2:
        _tighten(event)
        room = max_bytes - len(dumps(event)) - _RESERVE
    sizes = [len(dumps(span)) + 1 for span in spans]
    keep = _by_value(spans, sizes, min(room, _MAX_SPANS_BYTES), len(spans) if max_spans is None else max_spans)
    kept = [span for span, wanted in zip(spans, keep, strict=True) if wanted]
    rest = [span for span, wanted in zip(spans, keep, strict=True) if not wanted]
    event["spans"] = kept
    if rest and not elsewhere:
        _close_gaps(event, spans, len(rest))
    return dumps(event), rest


def _close_gaps(event: dict[str, Any], spans: Sequence[Mapping[str, Any]], lost: int) -> None:
    """The tree without *lost* of its *spans*: each that is kept hangs on its nearest kept ancestor."""
    trace = event.get("contexts", {}).get("trace", {})
    root = trace.get("span_id")
    kept = event["spans"]
    ids = {span.get("span_id") for span in kept} | {root}
    parents = {span.get("span_id"): span.get("parent_span_id") for span in spans}
    for span in kept:
        span["parent_span_id"] = nearest(span.get("parent_span_id"), ids, parents, root)
    data = trace.get("data")
    if isinstance(data, dict):
        data["sentry.dropped_span_count"] = data.get("sentry.dropped_span_count", 0) + lost


def _by_value(spans: Sequence[Mapping[str, Any]], sizes: Sequence[int], room: int, limit: int) -> list[bool]:
    """Which to keep in *room* bytes, at most *limit*: failed ones first, then the longest."""
    keep = [False] * len(spans)
    ranked = sorted(
        range(len(spans)),
        key=lambda index: (spans[index].get("status") != "ok", _duration(spans[index])),
        reverse=True,
    )
    for index in ranked:
        if sizes[index] <= room and limit > 0:
            limit -= 1
            room -= sizes[index]
            keep[index] = True
    return keep


def _duration(span: Mapping[str, Any]) -> float:
    start, end = span.get("start_timestamp"), span.get("timestamp")
    return end - start if isinstance(start, float) and isinstance(end, float) else 0.0


def _tighten(event: dict[str, Any]) -> None:
    """The root alone takes half of the room: cut its own texts."""
    for context in event.get("contexts", {}).values():
        if isinstance(context, dict) and isinstance(context.get("data"), dict):
            context["data"] = plain_data(context["data"], _TIGHT_TEXT)
    for key in ("extra", "request"):
        if isinstance(event.get(key), dict):
            event[key] = plain_data(event[key], _TIGHT_TEXT)
