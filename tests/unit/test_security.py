"""Security patterns, the audit trail and what bounds them; the store is this process's memory or a broken one."""

from __future__ import annotations

import contextvars
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from otel_sentry import counters, runtime
from otel_sentry.business import alerts, metrics, patterns, security, store, worker
from otel_sentry.business.memory import Memory
from otel_sentry.business.security import FIELDS, Who
from otel_sentry.business.thresholds import PATTERNS
from otel_sentry.settings import load
from tests.support.wire import Wire, wired

ADDRESS = "203.0.113.9"


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """The alerts that are raised: type, severity, message, context."""
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(alerts, "trigger", lambda *alert: found.append(alert))
    patterns.reset()
    yield found
    worker.flush(10)
    patterns.reset()


@pytest.fixture
def wire(receiver: Any) -> Iterator[Wire]:
    with wired(receiver, store="memory", audit_key="k") as one:
        yield one


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    def read() -> list[dict[str, Any]]:
        assert worker.flush(10)
        return [json.loads(record.getMessage()) for record in caplog.records if record.name == "otel_sentry.audit"]

    return read


def kinds(told: list[tuple[Any, ...]]) -> list[tuple[str, str]]:
    assert worker.flush(10)
    return [(alert[0], alert[1]) for alert in told]


def test_an_audit_line(wire: Wire, lines: Any) -> None:
    """One JSON object with the fixed fields; the address and a submitted name are keyed hashes, an id is itself."""
    security.note("logout", "ok", Who("7", ADDRESS), bad=False)
    security.note("login", "failed", Who(None, ADDRESS, ("zaphod",)))
    first, second = lines()
    assert list(first) == list(second) == list(FIELDS)
    assert (first["event"], first["user_id"], first["outcome"], first["trace_id"]) == ("logout", "7", "ok", None)
    assert first["address"] == second["address"] == security.hashed(ADDRESS) and len(first["address"]) == 16
    assert second["user_id"] == f"account:{security.hashed('zaphod')}"
    assert "zaphod" not in json.dumps([first, second]) and ADDRESS not in json.dumps([first, second])


def test_with_pii(receiver: Any, lines: Any) -> None:
    """`SENTRY_SEND_DEFAULT_PII`: as they are."""
    with wired(receiver, store="memory", send_default_pii=True):
        security.note("login", "failed", Who(None, ADDRESS, ("zaphod",)))
        (line,) = lines()
    assert (line["user_id"], line["address"]) == ("account:zaphod", ADDRESS)


def test_the_key(receiver: Any) -> None:
    """The same key, the same hashes; another setting or another secret, others."""
    found = []
    for setting, secret in (("a", "x"), ("a", "y"), ("b", "x"), (None, "x"), (None, "x"), (None, "y")):
        security.derive_key(secret)
        with wired(receiver, audit_key=setting):
            found.append(security.hashed(ADDRESS))
    assert found[0] == found[1] and found[3] == found[4]
    assert len(set(found)) == 4


def test_trace_tags_and_breadcrumb(wire: Wire) -> None:
    """In a request: tags, attributes of the span, and breadcrumbs of later errors; the worst event gives the tags."""
    from otel_sentry.trace.segment import current_segment

    with wire.tracer.start_as_current_span("GET /") as span:
        security.note("permission_denied", "denied", Who("7", ADDRESS))
        security.note("logout", "ok", Who("7", ADDRESS), bad=False)
        segment = current_segment()
        assert segment is not None and segment.crumbs is not None
        assert [tuple(one)[1:4] for one in segment.crumbs] == [
            ("security", "permission_denied: denied", "warning"), ("security", "logout: ok", "info"),
        ]  # fmt: skip
        assert segment.tags == {"security.event": "permission_denied", "security.outcome": "denied"}
    assert span.attributes["security.event"] == "logout"


def test_no_handler_and_a_disabled_logger(wire: Wire, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any handler lines go to stderr; neither a level nor `disable_existing_loggers` loses one."""
    monkeypatch.setattr(security.LOGGER, "disabled", True)
    monkeypatch.setattr(security.LOGGER, "level", logging.CRITICAL)
    monkeypatch.setattr(security.LOGGER, "propagate", False)
    security.note("logout", "ok", Who("7"), bad=False)
    assert json.loads(capsys.readouterr().err)["event"] == "logout"
    kept: list[logging.LogRecord] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", kept.append)
    monkeypatch.setattr(security.LOGGER, "handlers", [handler])
    security.note("logout", "ok", Who("7"), bad=False)
    assert [record.levelname for record in kept] == ["INFO"] and capsys.readouterr().err == ""


def test_brute_force(wire: Wire, told: list[Any], lines: Any) -> None:
    """Many failures of one account, from anywhere, or from one address: each told once, as critical; hashed."""
    for number in range(30):
        security.login_failed(Who(None, f"203.0.113.{number}", ("zaphod",)))
    assert kinds(told) == [("brute_force_account", "critical"), ("authentication_failures", "critical")]
    patterns.reset()
    told.clear()
    for number in range(19):
        security.login_failed(Who(None, ADDRESS, (f"user {number}",)))
    assert kinds(told) == []
    for number in range(30):
        security.login_failed(Who(None, ADDRESS, (f"other {number}",)))
    assert kinds(told) == [("brute_force_address", "critical"), ("authentication_failures", "critical")]
    assert told[0][3] == {
        "kind": "brute_force_address", "address": security.hashed(ADDRESS), "count": 20, "window_s": 300.0,
    }  # fmt: skip
    incidents = [line for line in lines() if line["event"] == "incident"]
    assert [line["outcome"] for line in incidents] == ["brute_force_account", "brute_force_address"]
    assert incidents[0]["user_id"] == f"account:{security.hashed('zaphod')}"
    assert "zaphod" not in repr(told) and ADDRESS not in repr(told)


def test_bursts(wire: Wire, told: list[Any]) -> None:
    """403, 404 and suspicious operations: of a user where one is signed in, else of an address; IPv6 by its /64."""
    for number in range(19):
        security.forbidden(Who("7", f"203.0.113.{number}"))
        security.forbidden(Who(None, f"203.0.113.{number}"))
    assert kinds(told) == []
    security.forbidden(Who("7", ADDRESS))
    assert kinds(told) == [("forbidden_burst", "warning")] and told[0][3]["user"] == "7"
    for number in range(50):
        security.not_found(Who(None, f"2001:db8:1:2:{number:x}::1"))
    for _ in range(10):
        security.suspicious("DisallowedHost", Who(None, "::ffff:203.0.113.9"))
    assert kinds(told)[1:] == [("not_found_burst", "warning"), ("suspicious_operations", "critical")]
    assert told[2][3]["address"] == security.hashed(ADDRESS)


def test_a_new_address_after_failures(wire: Wire, told: list[Any]) -> None:
    """Failures, and then a login from where the account never came from; not from a known address, nor at first."""
    home, away = Who("7", ADDRESS, ("zaphod",)), Who("7", "198.51.100.1", ("zaphod", "z@example.com"))
    failed = Who(None, "198.51.100.1", ("zaphod",))
    for _ in range(3):
        security.login_failed(failed)
    security.logged_in(home)  # nothing is known of this one yet
    for _ in range(3):
        security.login_failed(failed)
    security.logged_in(home)
    security.logged_in(away)  # the failures were over
    assert kinds(told) == []
    for _ in range(3):
        security.login_failed(Who(None, "198.51.100.2", ("z@example.com",)))
    security.logged_in(Who("7", "198.51.100.2", ("zaphod", "z@example.com")))
    assert kinds(told) == [("new_address_after_failures", "warning")]
    assert told[0][3]["address"] == security.hashed("198.51.100.2")


def test_the_share_of_failed_logins(wire: Wire, told: list[Any]) -> None:
    """More than half of at least 20 logins in 5 minutes failed: the system; at half not yet, and told once."""
    for number in range(12):
        security.logged_in(Who(str(number), ADDRESS))
        security.login_failed(Who(None, f"203.0.113.{number}", (f"user {number}",)))
    assert kinds(told) == []
    for number in range(5):
        security.login_failed(Who(None, f"198.51.100.{number}", (f"other {number}",)))
    assert kinds(told) == [("authentication_failures", "critical")]
    assert told[0][3] == {"failed": 13, "logins": 25, "window_s": 300.0}


def test_a_backend_that_raised(wire: Wire, told: list[Any]) -> None:
    """Critical at once, without the exception's text."""
    security.backend_raised("shop.auth.Ldap", ConnectionError("for zaphod"), Who(None, ADDRESS, ("zaphod",)))
    assert kinds(told) == [("authentication_failures", "critical")]
    assert told[0][2] == "Authentication system failure: shop.auth.Ldap raised ConnectionError"
    assert "zaphod" not in repr(told)


def test_counters(wire: Wire, told: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """`auth.login{outcome}` and `security.incident{kind}`, one incident however long it goes on."""
    found: list[tuple[str, str]] = []
    monkeypatch.setattr(metrics, "count", lambda name, **labels: found.extend((name, one) for one in labels.values()))
    security.logged_in(Who("7", ADDRESS))
    security.backend_raised("x.Y", KeyError(), Who())
    for _ in range(15):
        security.login_failed(Who(None, None, ("zaphod",)))
    assert worker.flush(10)
    assert sorted(found) == [
        ("auth.login", "error"), *[("auth.login", "failed")] * 15, ("auth.login", "ok"),
        ("security.incident", "brute_force_account"),
    ]  # fmt: skip


def test_settings(receiver: Any, told: list[Any]) -> None:
    """Events and seconds of a pattern, 0 for never; `OTEL_SENTRY_SECURITY=0` for none at all."""
    text = "brute_force_account=2/60, not_found_burst=0,forbidden_burst=3"
    settings = load({"OTEL_SENTRY_SECURITY_PATTERNS": text})
    assert dict(settings.security_patterns) == {
        "brute_force_account": (2, 60.0), "not_found_burst": (0, 60.0), "forbidden_burst": (3, 60.0),
    }  # fmt: skip
    for wrong in ("brute_force=3", "not_found_burst=x", "not_found_burst=2000", "not_found_burst=3/0"):
        assert load({"OTEL_SENTRY_SECURITY_PATTERNS": wrong}).security_patterns == ()
    with wired(receiver, store="memory", security_patterns={"brute_force_account": (2, 60), "not_found_burst": (0, 1)}):
        for _ in range(60):
            security.not_found(Who(None, ADDRESS))
        for _ in range(2):
            security.login_failed(Who(None, None, ("zaphod",)))
        assert kinds(told) == [("brute_force_account", "critical")]
    with wired(receiver, store="memory", security=False):
        for _ in range(60):
            security.not_found(Who(None, ADDRESS))
        assert len(kinds(told)) == 1


def test_the_store_is_away(wire: Wire, told: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Then this process counts on its own, at once, and puts nothing off."""

    class Away:
        """But for what others keep there."""

        memory = Memory()

        def __getattr__(self, name: str) -> Any:
            def call(key: str, *args: Any, **kwargs: Any) -> Any:
                if key.startswith("security:"):
                    raise store.Unavailable
                return getattr(self.memory, name)(key, *args, **kwargs)

            return call

    monkeypatch.setattr(store, "get", Away)
    for _ in range(10):
        security.login_failed(Who(None, ADDRESS, ("zaphod",)))
    security.logged_in(Who("7", ADDRESS, ("zaphod",)))
    assert kinds(told) == [("brute_force_account", "critical")]


@pytest.mark.once
def test_memory_is_bounded(wire: Wire) -> None:
    """A million addresses: a bounded number of them is counted, the rest is counted as lost; one flood, one table."""
    rule, here = PATTERNS["not_found_burst"], patterns.Place(contextvars.copy_context(), None)
    for number in range(20_000):
        patterns._count("not_found_burst", patterns.Subject("address", f"address {number}"), rule, here)
    for number in range(20_000, 1_000_000):
        assert not patterns._admit("not_found_burst", number, rule[1])
    assert len(patterns._seen["not_found_burst"].subjects) == patterns.MAX_SUBJECTS
    assert len(patterns._own["not_found_burst"]._values) == patterns.MAX_SUBJECTS
    assert list(patterns._own) == ["not_found_burst"]
    assert counters.snapshot()["queue_overflow", "business"] == 1_000_000 - patterns.MAX_SUBJECTS


def test_nothing_configured() -> None:
    """Without a set-up all of it does nothing."""
    assert runtime.get() is None
    security.note("logout", "ok", Who("7"))
    security.login_failed(Who(None, ADDRESS, ("zaphod",)))
    security.logged_in(Who("7", ADDRESS))
    security.incident("brute_force_account", Who())
