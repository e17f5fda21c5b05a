"""Which issue an error belongs to, and what it is counted by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from typing import Any
from urllib.error import HTTPError

import psycopg
import pytest
from opentelemetry.trace import SpanKind

from otel_sentry import alert_manager, capture_custom_exception, errors, set_user, settings, tag_business_operation
from otel_sentry.business import metrics, worker
from otel_sentry.convention.fingerprints import rules
from tests.support.client import Sentry, sentry_sdk_set_up
from tests.unit.test_client import capture, raised

DEFAULT = "{{ default }}"
HTTP = {"http.request.method": "POST", "http.route": "orders/", "url.path": "/orders/"}


@contextmanager
def request(**wanted: Any) -> Iterator[Sentry]:
    """A set-up, and a request that is being answered."""
    with sentry_sdk_set_up(**wanted) as sentry:
        with sentry.tracer.start_as_current_span("POST orders/", kind=SpanKind.SERVER, attributes=HTTP):
            yield sentry


def fingerprint(sentry: Sentry) -> Any:
    return sentry.event.get("fingerprint")


def test_nothing_known() -> None:
    """Without a business operation Sentry's own grouping is left alone; the kind is a tag all the same."""
    with request() as sentry:
        capture(raised(TimeoutError("slow")))
    assert fingerprint(sentry) is None
    assert sentry.event["tags"]["error_type"] == "timeout"


def test_operation_and_kind() -> None:
    """By default operation and kind tell issues apart, beside Sentry's grouping."""
    with request() as sentry, tag_business_operation("post_creation"):
        set_user("7", user_type="customer")
        capture(raised(PermissionError("no")))
    assert fingerprint(sentry) == [DEFAULT, "post_creation", "permission"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("operation", [DEFAULT, "post_creation"]),
        ("kind", [DEFAULT, "permission"]),
        ("who", [DEFAULT, "customer"]),
        ("operation,kind,who", [DEFAULT, "post_creation", "customer", "permission"]),
        ("action", [DEFAULT, "post_creation"]),
        ("operation,action", [DEFAULT, "post_creation"]),
        ("0", None),
    ],
)
def test_each_dimension_has_its_switch(wanted: str, expected: list[str] | None) -> None:
    """`OTEL_SENTRY_GROUP_BY` names the dimensions."""
    with request(group_by=wanted) as sentry, tag_business_operation("post_creation"):
        set_user("7", user_type="customer")
        capture(raised(PermissionError("no")))
    assert fingerprint(sentry) == expected


def test_the_action_of_a_user() -> None:
    """It is the journey's step, else the operation, else the route."""
    with request(group_by="action") as sentry:
        capture(raised(ValueError("no")))
    assert fingerprint(sentry) == [DEFAULT, "POST /orders/"]
    with request(group_by="action") as sentry:
        context = {"operation": "signup", "journey_step": "profile"}
        capture(raised(ValueError("no")), contexts={"business_context": context})
    assert fingerprint(sentry) == [DEFAULT, "profile"]


def test_the_programs_own_words_win() -> None:
    """The operation of `context` and the `error_type` of `tags` beat what was found."""
    with request() as sentry, tag_business_operation("signup", module="accounts", plan="pro"):
        capture_custom_exception(
            raised(TimeoutError("slow")),
            context={"operation": "user_registration", "details": {"step": 2}},
            tags={"error_type": "validation", "environment": "mine"},
        )
    assert fingerprint(sentry) == [DEFAULT, "user_registration", "validation"]
    business = sentry.event["contexts"]["business_context"]
    assert business == {"operation": "user_registration", "module": "accounts", "details": {"step": 2}}
    assert sentry.event["tags"].items() >= {"error_type": "validation", "app.environment": "mine"}.items()


def test_an_explicit_fingerprint() -> None:
    """It wins over rules, presets and dimensions, and is taken as it is; so do those of alerts."""
    own = rules("type:* -> rule")
    with request(fingerprints=own, store="memory") as sentry, tag_business_operation("signup"):
        capture_custom_exception(raised(ValueError("no")), fingerprint=["mine", 7])  # type: ignore[list-item]
        alert_manager.trigger_business_alert("payment_failed", "critical", "no money")
        assert worker.flush(5)
    assert [event["fingerprint"] for event in sentry.events] == [["mine", "7"], ["business-alert", "payment_failed"]]


def _named(name: str, module: str, **values: Any) -> BaseException:
    made: BaseException = type(name, (Exception,), {"__module__": module, **values})("boom")
    return made


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (_named("OperationalError", "psycopg"), ["postgresql-unreachable"]),
        (_named("ConnectionError", "redis.exceptions"), ["redis-unreachable"]),
        (_named("IntegrityError", "psycopg", constraint_name="email_key"), ["constraint", "email_key"]),
        (HTTPError("https://pay.test/x?y=1", 503, "away", Message(), None), ["upstream", "pay.test", "503"]),
    ],
)
def test_presets(exc: BaseException, expected: list[str]) -> None:
    """One fault is one issue, wherever it shows and whatever was being done; a switch turns that off."""
    with request() as sentry, tag_business_operation("signup"):
        capture(raised(exc))
    assert fingerprint(sentry) == expected
    assert "y=1" not in str(fingerprint(sentry))
    with request(group_by="operation") as sentry, tag_business_operation("signup"):
        capture(raised(exc))
    assert fingerprint(sentry) == [DEFAULT, "signup"]


def test_a_soft_time_limit() -> None:
    """Reported by the task's own code it is grouped by task, as the Celery hook does it."""
    limit = _named("SoftTimeLimitExceeded", "billiard.exceptions")
    with sentry_sdk_set_up() as sentry:
        attributes = {"celery.task_name": "reports.build"}
        with sentry.tracer.start_as_current_span("reports.build", kind=SpanKind.CONSUMER, attributes=attributes):
            capture(raised(limit))
    assert fingerprint(sentry) == ["celery", "SoftTimeLimitExceeded", "reports.build"]
    assert sentry.event["breadcrumbs"]["values"][0]["message"] == "Task started: reports.build"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type:KeyError -> a; type:LookupError -> b", ["a"]),
        ("type:LookupError -> b, {{ default }}", ["b", DEFAULT]),
        ("type:builtins.KeyError -> a", ["a"]),
        ("type:Timeout* -> a", [DEFAULT, "signup"]),
        ('message:"*QUOTA exceeded*" type:key* -> quota', ["quota"]),
        ("message:*absent* type:KeyError -> a", [DEFAULT, "signup"]),
        ("operation:sign* -> a", ["a"]),
        ("kind:database -> a\nkind:other -> b", ["b"]),
    ],
)
def test_the_users_rules(text: str, expected: list[str]) -> None:
    """The first one that fits decides; it may leave Sentry's own grouping out."""
    with request(fingerprints=text) as sentry, tag_business_operation("signup"):
        capture(raised(KeyError("quota exceeded by 7")))
    assert fingerprint(sentry) == expected


def test_rules_as_a_list() -> None:
    """`configure` takes them one by one, too."""
    with request(fingerprints=["type:TypeError -> a", "type:KeyError -> b"]) as sentry:
        capture(raised(KeyError("x")))
    assert fingerprint(sentry) == ["b"]


def by_function(event: dict[str, Any], exc: BaseException | None) -> list[str] | None:
    return ["by-function", type(exc).__name__] if isinstance(exc, KeyError) else None


def test_a_function_decides() -> None:
    """It is named by `package.module:function`; what it has no answer for goes on."""
    path = f"{__name__}:by_function"
    for exc, expected in (KeyError("x"), ["by-function", "KeyError"]), (ValueError("x"), [DEFAULT, "signup"]):
        with request(fingerprints=path) as sentry, tag_business_operation("signup"):
            capture(raised(exc))
        assert fingerprint(sentry) == expected


@pytest.mark.allow_swallowed
def test_a_function_that_fails() -> None:
    """The error is reported, as if there were no function."""
    with request(fingerprints=lambda event, exc: 1 / 0) as sentry, tag_business_operation("signup"):
        capture(raised(ValueError("x")))
    assert fingerprint(sentry) == [DEFAULT, "signup"]


@pytest.mark.parametrize("text", ["type A", "-> a", "type:A ->", "name:x -> a", 'type:"A -> a', "a.b", ""])
def test_what_is_no_rule(text: str) -> None:
    """It is said in one line, and the default is used."""
    loaded = settings.load({"OTEL_SENTRY_FINGERPRINTS": text, "OTEL_SENTRY_GROUP_BY": "operation,colour"})
    assert loaded.fingerprints is None and loaded.group_by == ("operation", "kind", "presets")
    assert len([line for line in loaded.problems if "OTEL_SENTRY_" in line]) == (2 if text else 1)


def test_messages() -> None:
    """An ERROR record without an exception is told apart by operation; rules see its text."""
    import logging

    from otel_sentry.sentry import hooks

    for wanted, expected in ({}, [DEFAULT, "signup"]), ({"fingerprints": "message:*7* -> seven"}, ["seven"]):
        with request(**wanted) as sentry, tag_business_operation("signup"):
            hooks.install()
            logging.getLogger("shop").error("stock is %d", 7)
        assert fingerprint(sentry) == expected
        assert "error_type" not in sentry.event.get("tags", {})


def test_errors_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each issue, by module, kind and whether a server was not reached; alerts are none, drops neither."""
    counted: list[Any] = []
    monkeypatch.setattr(metrics, "count", lambda name, value=1, **labels: counted.append((name, labels)))
    with request(store="memory", before_send=lambda event, hint: None if "drop" in str(event) else event) as sentry:
        with tag_business_operation("signup", module="accounts"):
            exc = raised(psycopg.OperationalError("away"))
            capture(exc)
            capture(exc)
            capture(raised(ValueError("drop")))
            alert_manager.trigger_business_alert("payments_counted", "critical", "no money")
            assert worker.flush(5)
        capture(raised(ValueError("x")))
    found = [labels for name, labels in counted if name == "app.errors"]
    assert found == [{"kind": "database", "module": "accounts", "connection": "true"}, {"kind": "other"}]
    assert len(sentry.events) == 3


def test_errors_are_counted_without_sentry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only other backends are set up errors count as well, once each."""
    counted: list[Any] = []
    monkeypatch.setattr(metrics, "count", lambda name, value=1, **labels: counted.append((name, labels)))
    with request() as sentry, tag_business_operation("signup", module="accounts"):
        sentry.runtime.sender = None
        exc = raised(ValueError("no"))
        assert capture_custom_exception(exc, tags={"error_type": "validation"}) is None
        errors.capture_unhandled(exc, mechanism="django")
    assert counted == [("app.errors", {"kind": "validation", "module": "accounts"})]


class _User:
    """Looks like Django's."""

    def __init__(self, **values: Any) -> None:
        self.id = 7
        self.email = "ada@example.test"
        vars(self).update(values)


class AnonymousUser:
    """Looks like Django's."""


@pytest.mark.parametrize(
    ("user", "wanted", "expected"),
    [
        (_User(), None, "customer"),
        (_User(is_staff=True), None, "admin"),
        (_User(is_superuser=True, user_type="agent"), None, "admin"),
        (_User(user_type="agent"), None, "agent"),
        (AnonymousUser(), None, "anonymous"),
        (_User(plan="pro"), "plan", "pro"),
        (_User(is_staff=True), "plan", "admin"),
        (_User(plan="pro"), lambda user: user.plan.upper(), "PRO"),
        (AnonymousUser(), lambda user: 1 / 0, "anonymous"),
    ],
)
@pytest.mark.parametrize("pii", [False, True])
def test_user_types(user: Any, wanted: Any, expected: str, pii: bool) -> None:
    """By the setting, else by the default rule; on the event as data and as tag, the e-mail with PII only."""
    with request(user_type=wanted, send_default_pii=pii) as sentry:
        capture_custom_exception(raised(ValueError("no")), user=user)
    (event,) = sentry.unchecked
    assert (event["user"]["user_type"], event["tags"]["user_type"]) == (expected, expected)
    assert ("email" in event["user"]) == (pii and isinstance(user, _User))
