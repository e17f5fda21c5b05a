"""Traces as trees and events as issues, in plain text: pure functions over the payloads that Sentry gets.

One trace is every transaction with its trace id, whichever process sent it; a transaction hangs on the span
that its ``parent_span_id`` names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from otel_sentry.cli.paint import Paint, plain

Payload = Mapping[str, Any]

_MAX_LABEL = 56
_SELECT_LIST = re.compile(r"^SELECT .{16,}? FROM ")
_MAX_CRUMBS = 4
#: Operation of a root -> where it runs.
PLACES = {"http.server": "web", "queue.process": "worker", "queue.task.celery": "worker"}


@dataclass
class _Node:
    """One span, one transaction, or several equal leaves in a row (*times*)."""

    id: str
    parent: str | None
    label: str
    op: str
    status: str | None
    start: float
    duration: float
    place: str = ""
    times: int = 1
    children: list[_Node] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def by_trace(transactions: Iterable[Payload]) -> dict[str, list[Payload]]:
    """Transactions by trace id, the earliest first."""
    traces: dict[str, list[Payload]] = {}
    for one in sorted(transactions, key=lambda one: seconds(one["start_timestamp"])):
        traces.setdefault(one["contexts"]["trace"]["trace_id"], []).append(one)
    return traces


def trace_tree(transactions: Sequence[Payload], events: Sequence[Payload] = (), *, paint: Paint = plain) -> str:
    """The tree of one trace; *events* are marked at the spans in which they happened."""
    nodes: dict[str, _Node] = {}
    roots = [_add(one, nodes) for one in transactions]
    top = _link(nodes, roots)
    for event in events:
        node = nodes.get(event.get("contexts", {}).get("trace", {}).get("span_id", ""))
        if node is not None:
            node.errors.append(_headline(event))
    lines: list[str] = []
    for node in top:
        lines.append(_line(node, paint))
        lines += _below(node, "", paint)
    return "\n".join(lines)


def issue(event: Payload, *, paint: Paint = plain) -> str:
    """An error event as Sentry's list of issues shows it, with where it belongs and what came before."""
    kind, value = exception_of(event)
    lines = [f"{paint('✗ ' + kind, 'red')}: {_cut(value, 100)}"]
    lines.append(f"  in {culprit_of(event)}   {paint(_handled(event), 'dim')}")
    lines += _where(event, paint)
    crumbs = event.get("breadcrumbs") or {}
    values = crumbs.get("values", []) if isinstance(crumbs, Mapping) else crumbs
    for crumb in values[-_MAX_CRUMBS:]:
        category = str(crumb.get("category") or crumb.get("type") or "-")
        text = _label(str(crumb.get("message") or _crumb_data(crumb)), "db" if category == "query" else "")
        lines.append(f"  {paint('before:', 'dim')} {category}  {text}")
    return "\n".join(lines)


def alert_of(event: Payload) -> str:
    """The type of a business alert; empty for every other event."""
    return str((event.get("tags") or {}).get("alert_type") or "")


def alert(event: Payload, *, paint: Paint = plain) -> str:
    """A business alert: type, severity and message, its values, and where it was raised."""
    values = dict((event.get("contexts") or {}).get("business_alert") or {})
    severity = values.pop("severity", "-")
    name = alert_of(event)
    values = {key: value for key, value in values.items() if value != name}
    lines = [f"{paint('‼ alert ' + name, 'red')}  {severity}: {_cut(exception_of(event)[1], 100)}"]
    if values:
        lines.append(f"  {paint('with', 'dim')} {_pairs(values)}")
    return "\n".join(lines + _where(event, paint))


def spans_of(transaction: Payload) -> list[dict[str, Any]]:
    """The transaction's spans, itself (as a span) first."""
    trace = transaction["contexts"]["trace"]
    root = {
        **trace,
        "description": transaction.get("transaction"),
        "start_timestamp": transaction["start_timestamp"],
        "timestamp": transaction["timestamp"],
    }
    return [root, *transaction.get("spans", ())]


def seconds(timestamp: object) -> float:
    """A protocol timestamp (seconds, or RFC 3339 text) in seconds."""
    if isinstance(timestamp, str):
        return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()
    return float(timestamp) if isinstance(timestamp, int | float) else 0.0


def exception_of(event: Payload) -> tuple[str, str]:
    """Type and value of the exception, or what the event says without one."""
    values = (event.get("exception") or {}).get("values") or []
    if values:
        return str(values[-1].get("type") or "Error"), str(values[-1].get("value") or "")
    entry = event.get("logentry") or {}
    message = event.get("message") or entry.get("formatted") or entry.get("message") or ""
    return str(event.get("level") or "error"), str(message)


def culprit_of(event: Payload) -> str:
    """The innermost frame of the application's own code."""
    values = (event.get("exception") or {}).get("values") or []
    frames = ((values[-1].get("stacktrace") or {}).get("frames") or []) if values else []
    if not frames:
        return str(event.get("transaction") or "-")
    frame = next((one for one in reversed(frames) if one.get("in_app")), frames[-1])
    return f"{frame.get('module')}.{frame.get('function')} ({frame.get('filename')}:{frame.get('lineno')})"


def _headline(event: Payload) -> str:
    kind, value = exception_of(event)
    name = alert_of(event)
    return f"‼ alert {name}: {value}" if name else f"✗ {kind}: {value}"


def _where(event: Payload, paint: Paint) -> list[str]:
    trace = event.get("contexts", {}).get("trace", {})
    lines = [
        f"  {paint('trace', 'dim')} {trace.get('trace_id', '-')}  {paint('span', 'dim')} {trace.get('span_id', '-')}"
    ]
    return lines + [f"  {paint(name, 'dim')} {text}" for name, text in _context(event)]


def _pairs(values: Payload) -> str:
    return ", ".join(f"{name}={_cut(str(value), 40)}" for name, value in values.items() if value and name != "type")


def _context(event: Payload) -> Iterable[tuple[str, str]]:
    if event.get("transaction"):
        yield "transaction", str(event["transaction"])
    user = event.get("user") or {}
    if user.get("id"):
        yield "user", str(user["id"])
    business = (event.get("contexts") or {}).get("business_context") or {}
    if business:
        yield "business", _pairs(business)


def _handled(event: Payload) -> str:
    values = (event.get("exception") or {}).get("values") or [{}]
    mechanism = values[-1].get("mechanism") or {}
    return "unhandled" if mechanism.get("handled") is False else "handled"


def _crumb_data(crumb: Payload) -> str:
    return " ".join(f"{name}={value}" for name, value in (crumb.get("data") or {}).items())


def _add(transaction: Payload, nodes: dict[str, _Node]) -> _Node:
    """Make the nodes of one transaction; its root."""
    made = [_node(span) for span in spans_of(transaction)]
    root = made[0]
    root.place = PLACES.get(root.op, "")
    known = {node.id for node in made}
    for node in made:
        if node is not root and node.parent not in known:  # its parent was dropped: it still belongs here
            node.parent = root.id
        nodes[node.id] = node
    return root


def _node(span: Payload) -> _Node:
    start = seconds(span["start_timestamp"])
    return _Node(
        id=str(span["span_id"]),
        parent=span.get("parent_span_id"),
        label=_label(str(span.get("description") or span.get("op") or "-"), str(span.get("op") or "")),
        op=str(span.get("op") or ""),
        status=span.get("status"),
        start=start,
        duration=max(0.0, seconds(span["timestamp"]) - start),
    )


def _label(text: str, op: str) -> str:
    """What fits on a line; of SQL without the quotes and the list of columns, which say the least."""
    text = _one_line(text)
    if op == "db" or op.startswith("db.sql"):
        text = _SELECT_LIST.sub("SELECT … FROM ", text.replace('"', ""))
    return _cut(text, _MAX_LABEL)


def _link(nodes: dict[str, _Node], roots: Sequence[_Node]) -> list[_Node]:
    """Hang every node on its parent; those without one, by time."""
    top: list[_Node] = []
    for node in nodes.values():
        parent = nodes.get(node.parent or "")
        (parent.children if parent is not None and parent is not node else top).append(node)
    for node in nodes.values():
        node.children = _folded(sorted(node.children, key=lambda child: child.start))
    return sorted(top, key=lambda node: node.start)


def _folded(children: Sequence[_Node]) -> list[_Node]:
    """Equal leaves in a row become one line with a count."""
    folded: list[_Node] = []
    for child in children:
        last = folded[-1] if folded else None
        if last is not None and _same(last, child):
            last.times += child.times
            last.duration += child.duration
        else:
            folded.append(child)
    return folded


def _same(one: _Node, other: _Node) -> bool:
    leaves = not (one.children or other.children or one.place or other.place)
    return leaves and (one.label, one.op, one.status) == (other.label, other.op, other.status)


def _below(node: _Node, indent: str, paint: Paint) -> list[str]:
    entries: list[str | _Node] = [*node.errors, *node.children]
    lines = []
    for index, entry in enumerate(entries):
        last = index == len(entries) - 1
        branch = paint(indent + ("└─ " if last else "├─ "), "dim")
        if isinstance(entry, str):
            lines.append(branch + paint(_cut(entry, 100), "red"))
            continue
        lines.append(branch + _line(entry, paint))
        lines += _below(entry, indent + ("   " if last else "│  "), paint)
    return lines


def _line(node: _Node, paint: Paint) -> str:
    parts = [paint(node.label, "bold") if node.place else node.label]
    if node.times > 1:
        parts.append(f"×{node.times}")
    if node.op and node.op != node.label:
        parts.append(paint(node.op, "cyan"))
    if node.status and (node.place or node.status != "ok"):
        parts.append(paint(node.status, "green" if node.status == "ok" else "red"))
    parts.append(paint(_duration(node.duration), "yellow" if node.duration >= 0.5 else "dim"))
    if node.place:
        parts.append(paint(f"[{node.place}]", "blue"))
    return "  ".join(parts)


def _duration(value: float) -> str:
    if value >= 1.0:
        return f"{value:.2f} s"
    return f"{value * 1000:.0f} ms" if value >= 0.01 else f"{value * 1000:.1f} ms"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str, length: int) -> str:
    text = _one_line(text)
    return text if len(text) <= length else text[: length - 1] + "…"
