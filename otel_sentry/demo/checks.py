"""Did everything arrive that a step of the visitor's must make? Pure functions over what Sentry gets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from otel_sentry.cli import business, tree
from otel_sentry.demo.traffic import Business, Step

Payload = Mapping[str, Any]


def complete(step: Step, transactions: Sequence[Payload], events: Sequence[Payload]) -> bool:
    """Is there as much as *step* makes (so that waiting longer is of no use)?"""
    names = [str(one.get("transaction")) for one in transactions]
    enough = all(names.count(name) >= step.roots.count(name) * step.times for name in step.roots)
    return len(events) >= len(step.issues) + len(step.alerts) and enough


def missing(step: Step, transactions: Sequence[Payload], events: Sequence[Payload]) -> list[str]:
    """What is missing or wrong, one line each; empty if all is well."""
    problems = []
    by_name = {str(one.get("transaction")): one for one in transactions}
    problems += [f"transaction {name}" for name in step.roots if name not in by_name]
    problems += _wrong_number(step, transactions)
    found = [by_name[name] for name in step.roots if name in by_name]
    if len({_trace_of(one) for one in found}) > 1:
        problems.append("one trace: " + ", ".join(f"{one['transaction']} is in {_trace_of(one)}" for one in found))
    problems += _wrong_parents(found)
    problems += _wrong_status(step, found)
    texts = [text for one in found for text in _texts(one)]
    problems += [f"a span with {piece}" for piece in step.spans if not any(piece in text for text in texts)]
    problems += [
        f"no span with {piece}, but there is one" for piece in step.absent if any(piece in text for text in texts)
    ]
    if found and _milliseconds(found[0]) < step.at_least_ms:
        problems.append(
            f"{step.at_least_ms:.0f} ms, but {found[0]['transaction']} took {_milliseconds(found[0]):.0f} ms"
        )
    alerts = [event for event in events if tree.alert_of(event)]
    issues = [event for event in events if not tree.alert_of(event)]
    all_of_it = [one for one in transactions if one.get("transaction") in step.roots]
    return problems + _wrong_issues(step, all_of_it, issues) + _wrong_alerts(step, all_of_it, alerts)


def _wrong_number(step: Step, transactions: Sequence[Payload]) -> list[str]:
    """What is done several times makes as many traces."""
    problems = []
    for name in step.roots if step.times > 1 else ():
        traces = {_trace_of(one) for one in transactions if one.get("transaction") == name}
        if traces and len(traces) != step.times:
            problems.append(f"{step.times} traces of {name} (there are {len(traces)})")
    return problems


def _wrong_parents(found: Sequence[Payload]) -> list[str]:
    """The second and later roots must hang on a span of the first one's process."""
    problems = []
    for one in found[1:]:
        before = {span["span_id"] for other in found if other is not one for span in tree.spans_of(other)}
        if one["contexts"]["trace"].get("parent_span_id") not in before:
            problems.append(f"the parent of {one['transaction']} among the spans of {found[0]['transaction']}")
    return problems


#: HTTP status -> that of the transaction, where it is not ok.
_ANSWERS = {402: "invalid_argument", 403: "permission_denied"}


def _wrong_status(step: Step, found: Sequence[Payload]) -> list[str]:
    """A root that fails with an unhandled error says so, the first one what it answered; every other is ok."""
    failing = step.roots[-1] if set(step.issues) & {"ZeroDivisionError", "ExportFailed"} else None
    problems = []
    for one in found:
        status = one["contexts"]["trace"].get("status")
        answer = _ANSWERS.get(step.status, "ok") if one["transaction"] == step.roots[0] else "ok"
        expected = "internal_error" if one["transaction"] == failing else answer
        if status != expected:
            problems.append(f"status {expected} of {one['transaction']} (it is {status})")
    return problems


def _wrong_issues(step: Step, found: Sequence[Payload], events: Sequence[Payload]) -> list[str]:
    return _wrong("issue", step.issues, [tree.exception_of(event)[0] for event in events], found, events)


def _wrong_alerts(step: Step, found: Sequence[Payload], events: Sequence[Payload]) -> list[str]:
    return _wrong("alert", step.alerts, [tree.alert_of(event) for event in events], found, events)


def _wrong(
    what: str, expected: Sequence[str], names: Sequence[str], found: Sequence[Payload], events: Sequence[Payload]
) -> list[str]:
    problems = [f"{what} {name}" for name in expected if name not in names]
    problems += [f"no {what} {name}, but there is one" for name in names if name not in expected]
    problems += [f"one {what} {name}, but there are {names.count(name)}" for name in expected if names.count(name) > 1]
    spans = {(_trace_of(one), span["span_id"]) for one in found for span in tree.spans_of(one)}
    for name, event in zip(names, events, strict=True):
        trace = event.get("contexts", {}).get("trace", {})
        if found and (trace.get("trace_id"), trace.get("span_id")) not in spans:
            problems.append(f"{what} {name} on a span of its trace")
    return problems


def missing_business(wanted: Business, transactions: Sequence[Payload], items: Sequence[Payload]) -> list[str]:
    """What is missing or wrong of the journey, the funnel, the features and the operations, one line each."""
    found = [(name, [step.name for step in steps]) for name, steps in business.journeys(transactions).values()]
    problems = []
    if found != [(wanted.journey, list(wanted.steps))]:
        problems.append(f"one journey {wanted.journey} with {', '.join(wanted.steps)} (there is {found})")
    ends = _values(business.summed(items, "journey.completed", "name", "outcome"), wanted.journey)
    if ends != {wanted.outcome: 1}:
        problems.append(f"journey {wanted.journey} {wanted.outcome} once (it is {ends})")
    users = _values(business.latest(items, "funnel.users", "funnel", "step"), wanted.funnel)
    if users != wanted.users:
        problems.append(f"funnel {wanted.funnel} with {dict(wanted.users)} (it is {users})")
    uses = _values(business.summed(items, "feature.used", "feature", "usage"), wanted.feature)
    if uses != wanted.uses:
        problems.append(f"feature {wanted.feature} with {dict(wanted.uses)} (it is {uses})")
    operations = business.summed(items, "business.operation.duration", "operation", "outcome")
    for (name, outcome), number in wanted.operations.items():
        times = _values(operations, name).get(outcome, 0)
        if times != number:
            problems.append(f"operation {name} {outcome} {number} times (it is {times:g} times)")
    for what, metric, label, expected in (
        ("logins", "auth.login", "outcome", wanted.logins),
        ("security incidents", "security.incident", "kind", wanted.incidents),
    ):
        counted = {one.name: sum(one.values.values()) for one in business.summed(items, metric, label)}
        if counted != expected:
            problems.append(f"{what} {dict(expected)} (they are {counted})")
    return problems


def _values(told: Iterable[business.Told], name: str) -> dict[str, float]:
    return next((one.values for one in told if one.name == name), {})


def _texts(transaction: Payload) -> Iterable[str]:
    for span in tree.spans_of(transaction):
        yield str(span.get("description") or "")
        yield from (value for value in (span.get("data") or {}).values() if isinstance(value, str))


def _trace_of(transaction: Payload) -> str:
    return str(transaction["contexts"]["trace"]["trace_id"])


def _milliseconds(transaction: Payload) -> float:
    return (tree.seconds(transaction["timestamp"]) - tree.seconds(transaction["start_timestamp"])) * 1000
