"""Did everything arrive that a step of the visitor's must make? Pure functions over what Sentry gets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from otel_sentry.cli import tree
from otel_sentry.demo.traffic import Step

Payload = Mapping[str, Any]


def complete(step: Step, transactions: Sequence[Payload], events: Sequence[Payload]) -> bool:
    """Is there as much as *step* makes (so that waiting longer is of no use)?"""
    names = [str(one.get("transaction")) for one in transactions]
    return len(events) >= len(step.issues) and all(names.count(name) >= step.roots.count(name) for name in step.roots)


def missing(step: Step, transactions: Sequence[Payload], events: Sequence[Payload]) -> list[str]:
    """What is missing or wrong, one line each; empty if all is well."""
    problems = []
    by_name = {str(one.get("transaction")): one for one in transactions}
    problems += [f"transaction {name}" for name in step.roots if name not in by_name]
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
    return problems + _wrong_issues(step, found, events)


def _wrong_parents(found: Sequence[Payload]) -> list[str]:
    """The second and later roots must hang on a span of the first one's process."""
    problems = []
    for one in found[1:]:
        before = {span["span_id"] for other in found if other is not one for span in tree.spans_of(other)}
        if one["contexts"]["trace"].get("parent_span_id") not in before:
            problems.append(f"the parent of {one['transaction']} among the spans of {found[0]['transaction']}")
    return problems


def _wrong_status(step: Step, found: Sequence[Payload]) -> list[str]:
    """A root that fails with an unhandled error says so; every other is ok."""
    failing = step.roots[-1] if set(step.issues) & {"ZeroDivisionError", "ExportFailed"} else None
    problems = []
    for one in found:
        status = one["contexts"]["trace"].get("status")
        expected = "internal_error" if one["transaction"] == failing else "ok"
        if status != expected:
            problems.append(f"status {expected} of {one['transaction']} (it is {status})")
    return problems


def _wrong_issues(step: Step, found: Sequence[Payload], events: Sequence[Payload]) -> list[str]:
    types = [tree.exception_of(event)[0] for event in events]
    problems = [f"issue {name}" for name in step.issues if name not in types]
    problems += [f"no issue {name}, but there is one" for name in types if name not in step.issues]
    problems += [
        f"one issue {name}, but there are {types.count(name)}" for name in step.issues if types.count(name) > 1
    ]
    spans = {span["span_id"] for one in found for span in tree.spans_of(one)}
    for event in events:
        trace = event.get("contexts", {}).get("trace", {})
        if found and (trace.get("trace_id") != _trace_of(found[0]) or trace.get("span_id") not in spans):
            problems.append(f"issue {tree.exception_of(event)[0]} on a span of its trace")
    return problems


def _texts(transaction: Payload) -> Iterable[str]:
    for span in tree.spans_of(transaction):
        yield str(span.get("description") or "")
        yield from (value for value in (span.get("data") or {}).values() if isinstance(value, str))


def _trace_of(transaction: Payload) -> str:
    return str(transaction["contexts"]["trace"]["trace_id"])


def _milliseconds(transaction: Payload) -> float:
    return (tree.seconds(transaction["timestamp"]) - tree.seconds(transaction["start_timestamp"])) * 1000
