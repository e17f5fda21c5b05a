"""The demo's business half: journeys out of spans, the rest out of Sentry's metric items, alerts out of events."""

from __future__ import annotations

from typing import Any

import pytest

from otel_sentry.cli import business, tree
from otel_sentry.demo import checks, traffic


def transaction(name: str, op: str, trace: str, span: str, at: float, step: str | None = None) -> dict[str, Any]:
    """A root that took part in a journey."""
    data = {"journey.id": "j", "journey.name": "onboarding", **({"journey.step": step} if step else {})}
    context = {"trace_id": trace * 32, "span_id": span * 16, "op": op, "status": "ok", "data": data}
    return {"transaction": name, "start_timestamp": at - 0.5, "timestamp": at, "contexts": {"trace": context}}


def item(metric: str, type: str, value: float, /, **attributes: str) -> dict[str, Any]:
    """A measurement as it is in Sentry's container."""
    typed = {key: {"value": text, "type": "string"} for key, text in attributes.items()}
    return {"name": metric, "type": type, "value": value, "timestamp": next(_clock), "attributes": typed}


_clock = iter(range(10_000))
ROOTS = [
    transaction("posts.tasks.render_post", "queue.process", "b", "3", 12.0, "published"),
    transaction("POST /signup/", "http.server", "a", "1", 10.0, "signed_up"),
    transaction("GET /", "http.server", "c", "2", 11.0),
]
ITEMS = [
    item("journey.completed", "counter", 1, name="onboarding", outcome="completed"),
    item("funnel.drop_off", "gauge", 1.0, funnel="onboarding", step="first_post"),
    item("funnel.users", "gauge", 1, funnel="onboarding", step="signed_up"),
    item("funnel.users", "gauge", 2, funnel="onboarding", step="signed_up"),
    item("funnel.users", "gauge", 1, funnel="onboarding", step="first_post"),
    item("funnel.drop_off", "gauge", 0.5, funnel="onboarding", step="first_post"),
    item("feature.used", "counter", 2, feature="creator", usage="video"),
    item("feature.used", "counter", 1, feature="creator", usage="video"),
    item("business.operation.duration", "distribution", 0.2, operation="payment", outcome="error"),
    item("auth.login", "counter", 1, outcome="failed"),
    item("security.incident", "counter", 1, kind="brute_force_account"),
]


def test_report() -> None:
    """A journey in the order of time with its end, a funnel's last gauges, counters' sums, in words."""
    assert business.report(ROOTS, ITEMS).splitlines() == [
        "journey    onboarding  completed",
        "├─ signed_up  +0.0 s  POST /signup/  [web]  trace aaaaaaaa…",
        "└─ published  +2.0 s  posts.tasks.render_post  [worker]  trace bbbbbbbb…",
        "funnel     onboarding  users, today",
        "├─ signed_up   2",
        "└─ first_post  1  50% drop-off",
        "feature    creator  video 3",
        "operation  payment  error 1",
        "logins     failed  1",
        "incident   brute_force_account  1",
    ]


WANTED = traffic.Business(
    "onboarding", ("signed_up", "published"), "completed", "onboarding", {"signed_up": 2, "first_post": 1}, "creator",
    {"video": 3}, {("payment", "error"): 1}, {"failed": 1}, {"brute_force_account": 1},
)  # fmt: skip


@pytest.mark.parametrize("left_out", [None, *range(len(ITEMS)), "journey"])
def test_checks_of_the_business(left_out: int | str | None) -> None:
    """All of it is right; without one measurement that counts, or without a part of the journey, it is not."""
    roots = ROOTS[1:] if left_out == "journey" else ROOTS
    items = [one for place, one in enumerate(ITEMS) if place != left_out]
    counts = left_out == "journey" or (isinstance(left_out, int) and ITEMS[left_out]["name"] != "funnel.drop_off")
    earlier_gauge = left_out == 2
    assert bool(checks.missing_business(WANTED, roots, items)) is (counts and not earlier_gauge)


def alert(kind: str, span: str) -> dict[str, Any]:
    """A business alert's event."""
    trace = {"trace_id": "a" * 32, "span_id": span * 16}
    values = {"alert_type": kind, "severity": "critical", "cents": 900, "type": "default"}
    return {
        "level": "fatal",
        "logentry": {"formatted": "refused"},
        "tags": {"alert_type": kind},
        "contexts": {"trace": trace, "business_alert": values},
    }


def test_alerts_are_no_issues() -> None:
    """An alert is shown with severity, message and values, is marked in its trace, and counts apart from issues."""
    root = transaction("POST /pay/", "http.server", "a", "1", 10.0)
    event = alert("payment_failed", "1")
    assert tree.alert(event).splitlines()[:2] == ["‼ alert payment_failed  critical: refused", "  with cents=900"]
    assert "‼ alert payment_failed: refused" in tree.trace_tree([root], [event])
    step = traffic.Step("pay", lambda visitor: 200, 200, ("POST /pay/",), alerts=("payment_failed",))
    assert checks.complete(step, [root], [event]) and not checks.complete(step, [root], [])
    assert checks.missing(step, [root], [event]) == []
    assert checks.missing(step, [root], []) == ["alert payment_failed"]
    assert checks.missing(step, [root], [alert("payment_failed", "9")]) == [
        "alert payment_failed on a span of its trace"
    ]
    assert checks.missing(step, [root], [event, alert("other", "1")]) == ["no alert other, but there is one"]


def test_what_is_done_several_times() -> None:
    """As many traces as times; each of them may be the one that the alert is of."""
    step = traffic.Step("try", lambda visitor: 403, 403, ("POST /login/",), alerts=("brute_force",), times=2)
    tries = [transaction("POST /login/", "http.server", trace, trace, 10.0) for trace in "ab"]
    for one in tries:
        one["contexts"]["trace"]["status"] = "permission_denied"
    assert checks.missing(step, tries, [alert("brute_force", "a")]) == []
    assert checks.missing(step, tries[:1], [alert("brute_force", "a")]) == ["2 traces of POST /login/ (there are 1)"]
    assert not checks.complete(step, tries[:1], [alert("brute_force", "a")])
