"""Journeys, funnels, features and operations, out of what Sentry gets: pure functions over its payloads.

A journey is known by the attributes of the spans that took part; the rest is Sentry's metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from otel_sentry.cli import tree
from otel_sentry.cli.paint import Paint, plain

Payload = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """One step of a journey: which, in which transaction, how many seconds after the first one."""

    name: str
    transaction: str
    op: str
    trace_id: str
    after: float


@dataclass(frozen=True)
class Told:
    """What metrics say of one name: {label: number}, in the order of their first mention."""

    name: str
    values: dict[str, float]


def journeys(transactions: Iterable[Payload]) -> dict[str, tuple[str, list[Step]]]:
    """Journey id -> its name and steps, in the order of time."""
    found: dict[str, tuple[str, list[Step]]] = {}
    began: dict[str, float] = {}
    for one in sorted(transactions, key=lambda one: tree.seconds(one["start_timestamp"])):
        for span in tree.spans_of(one):
            data = span.get("data") or {}
            if not data.get("journey.id") or not data.get("journey.step"):
                continue
            key, at = str(data["journey.id"]), tree.seconds(span["timestamp"])
            began.setdefault(key, at)
            _, steps = found.setdefault(key, (str(data.get("journey.name")), []))
            trace = one["contexts"]["trace"]
            step = (str(data["journey.step"]), str(one.get("transaction")), str(trace.get("op")), trace["trace_id"])
            steps.append(Step(*step, at - began[key]))
    return found


def items_of(containers: Iterable[Payload]) -> list[Payload]:
    """The measurements in Sentry's containers, in the order of time."""
    return sorted((item for one in containers for item in one["items"]), key=lambda item: item["timestamp"])


def summed(items: Iterable[Payload], metric: str, name: str, *labels: str) -> list[Told]:
    """A counter's sums (a distribution's numbers of values), by the attribute *name* and then by *labels*."""

    def add(before: float, item: Payload) -> float:
        return before + (item["value"] if item["type"] == "counter" else 1)

    return _told(items, metric, name, labels, add)


def latest(items: Iterable[Payload], metric: str, name: str, *labels: str) -> list[Told]:
    """A gauge's last values, likewise."""
    return _told(items, metric, name, labels, lambda _, item: float(item["value"]))


def _told(
    items: Iterable[Payload], metric: str, name: str, labels: Sequence[str], add: Callable[[float, Payload], float]
) -> list[Told]:
    found: dict[str, dict[str, float]] = {}
    for item in items:
        if item["name"] != metric:
            continue
        given = {key: str(one.get("value")) for key, one in item["attributes"].items()}
        values = found.setdefault(given.get(name, "-"), {})
        label = " ".join(given.get(key, "-") for key in labels)
        values[label] = add(values.get(label, 0.0), item)
    return [Told(*one) for one in found.items()]


def report(transactions: Sequence[Payload], items: Sequence[Payload], *, paint: Paint = plain) -> str:
    """All of it as text."""
    return "\n".join(
        [
            *_journeys(transactions, items, paint),
            *_funnels(items, paint),
            *_counts("feature", items, paint, "feature.used", "feature", "usage"),
            *_counts("operation", items, paint, "business.operation.duration", "operation", "outcome"),
            *_counts("logins", items, paint, "auth.login", "outcome"),
            *_counts("incident", items, paint, "security.incident", "kind"),
        ]
    )


def _journeys(transactions: Sequence[Payload], items: Sequence[Payload], paint: Paint) -> Iterator[str]:
    ends = {one.name: one.values for one in summed(items, "journey.completed", "name", "outcome")}
    for name, steps in journeys(transactions).values():
        outcome = "".join(list(ends.get(name, {}))[:1]) or "under way"
        colour = {"completed": "green", "under way": "yellow"}.get(outcome, "red")
        width = max(len(step.name) for step in steps)
        yield f"journey    {paint(name, 'bold')}  {paint(outcome, colour)}"
        for branch, step in _branches(steps, paint):
            place = paint(f"[{tree.PLACES.get(step.op, '-')}]", "blue")
            after = paint(f"+{step.after:.1f} s", "dim")
            where = f"{step.transaction}  {place}  {paint('trace', 'dim')} {step.trace_id[:8]}…"
            yield f"{branch}{step.name:{width}}  {after}  {where}"


def _funnels(items: Sequence[Payload], paint: Paint) -> Iterator[str]:
    lost = {one.name: one.values for one in latest(items, "funnel.drop_off", "funnel", "step")}
    for one in latest(items, "funnel.users", "funnel", "step"):
        yield f"funnel     {paint(one.name, 'bold')}  users, today"
        steps = list(dict.fromkeys([*one.values, *lost.get(one.name, {})]))
        width = max(map(len, steps))
        for branch, step in _branches(steps, paint):
            share = lost.get(one.name, {}).get(step)
            text = f"{branch}{step:{width}}  {one.values.get(step, 0):g}"
            yield text + (f"  {paint(f'{share:.0%} drop-off', 'yellow')}" if share else "")


def _counts(what: str, items: Sequence[Payload], paint: Paint, metric: str, name: str, *labels: str) -> Iterator[str]:
    """One line a name: ``operation  payment  error 1``."""
    for one in summed(items, metric, name, *labels):
        counts = (f"{label} {number:g}".strip() for label, number in one.values.items())
        is_bad = "error" in one.values or one.name == "failed" or what == "incident"
        yield f"{what:9}  {paint(one.name, 'bold')}  {paint(', '.join(counts), 'red' if is_bad else 'green')}"


def _branches(things: Sequence[T], paint: Paint) -> Iterator[tuple[str, T]]:
    for index, thing in enumerate(things):
        yield paint("└─ " if index == len(things) - 1 else "├─ ", "dim"), thing
