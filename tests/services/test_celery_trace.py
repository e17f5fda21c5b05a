"""From publisher to task: one trace for every way to publish, and what the message takes along."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from otel_sentry.cli.receiver import Receiver
from tests.services.test_celery import environ, worker
from tests.support.jobs import APP, LAUNCHER
from tests.support.relay import assert_relay_ok

pytestmark = [pytest.mark.services, pytest.mark.once]

CLIENT = """
    import jobs, otel_sentry
    from celery import chain, group, chord
    from opentelemetry import trace

    def publish(name, function):
        with trace.get_tracer("client").start_as_current_span(name):
            otel_sentry.set_user({"id": "7", "email": "ann@example.com", "user_type": "admin"})
            otel_sentry.set_business_context("checkout", module="shop", card="visa-4111")
            function()
"""
STYLES = {
    "delay": "jobs.add.delay(1, 1)",
    "apply_async": "jobs.add.apply_async((1, 1), countdown=0.1)",
    "send_task": "jobs.app.send_task('jobs.add', (1, 1))",
    "chain": "chain(jobs.add.s(1, 1), jobs.add.s(2), jobs.total_of.s())()",
    "group": "group(jobs.add.s(1, 1), jobs.add.s(2, 2))()",
    "chord": "chord([jobs.add.s(1, 1), jobs.add.s(2, 2)], jobs.total.s())()",
    "retry": "jobs.retry_once.delay()",
    "replace": "jobs.replaced.delay()",
    "nested": "jobs.parent.delay()",
    "eager": "jobs.eager.apply()",
    "linked": "jobs.nap.delay(0)",
    "new": "jobs.ignore.delay()",
    "failure": "jobs.fail_with.delay('4711', password='secret')",
    "soft limit": "jobs.too_slow_to_finish.delay()",
    "last retry": "jobs.fail_at_last.delay()",
}
#: publish(run(what the run published)) below each root; sorted, since runs end in any order.
TREES = {
    "delay": ["add(add)"],
    "apply_async": ["add(add)"],
    "send_task": ["add(add)"],
    "chain": ["add(add(add(add(total_of(total_of)))))"],
    "group": ["add(add)", "add(add)"],
    "chord": ["add(add(total(total)))", "add(add)"],
    "retry": ["retry_once(retry_once(retry_once(retry_once)))"],
    "replace": ["replaced(replaced(add(add)))"],
    "nested": ["parent(parent(add(add)))"],
    "eager": ["eager"],
    "linked": ["nap"],
    "new": ["ignore"],
    "failure": ["fail_with(fail_with)"],
    "soft limit": ["too_slow_to_finish(too_slow_to_finish)"],
    "last retry": ["fail_at_last(fail_at_last(fail_at_last(fail_at_last)))"],
}
RUNS = 23


@pytest.fixture(scope="module")
def sent(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """All that one client and one worker sent when every style was used once."""
    folder = tmp_path_factory.mktemp("styles")
    with Receiver() as receiver:
        env = _environ(receiver, valkey_url, folder)
        env["OTEL_SENTRY_CELERY_TRACE"] = "jobs.nap=link, jobs.ig*=new"
        with worker(env, ["--pool=prefork", "--concurrency=2", "--without-gossip"], folder / "log"):
            calls = "\n".join(f"publish({name!r}, lambda: {call})" for name, call in STYLES.items())
            _client(calls, env)
            receiver.wait_for(lambda one: len(_runs(one)) >= RUNS and len(one.events) >= 3, timeout=30)
        yield receiver


def _environ(receiver: Receiver, valkey_url: str, folder: pathlib.Path) -> dict[str, str]:
    env = environ(valkey_url, folder)
    return env | {"SENTRY_DSN": receiver.dsn, "SENTRY_ENVIRONMENT": "development", "SENTRY_RELEASE": "jobs@1"}


def _client(code: str, env: dict[str, str]) -> None:
    source = textwrap.dedent(CLIENT) + textwrap.dedent(code)
    subprocess.run([str(LAUNCHER), sys.executable, "-c", source], env=env, cwd=APP, check=True, timeout=60)


def _runs(receiver: Receiver) -> list[dict[str, Any]]:
    return [item for item in receiver.transactions if item["transaction"].startswith("jobs.")]


def _root(receiver: Receiver, name: str) -> dict[str, Any]:
    (found,) = [item for item in receiver.transactions if item["transaction"] == name]
    return found


def _spans(receiver: Receiver) -> list[dict[str, Any]]:
    """All spans, roots too, with the same fields."""
    found = []
    for item in receiver.transactions:
        found.append({**item["contexts"]["trace"], "description": item["transaction"]})
        found.extend(item["spans"])
    return found


def _below(spans: list[dict[str, Any]], parent: dict[str, Any]) -> list[str]:
    names = []
    for span in spans:
        if span.get("parent_span_id") == parent["span_id"] and span.get("op", "").startswith("queue."):
            assert span["trace_id"] == parent["trace_id"]
            inner = ", ".join(_below(spans, span))
            name = span["description"].removeprefix("jobs.")
            names.append(f"{name}({inner})" if inner else name)
    return sorted(names, key=lambda name: (-len(name), name))


@pytest.mark.parametrize("style", STYLES)
def test_one_trace(sent: Receiver, style: str) -> None:
    """Publisher, message and run hang together, each once; the next task of a canvas hangs below the run before it."""
    root = _root(sent, style)["contexts"]["trace"]
    assert _below(_spans(sent), root) == TREES[style]


def test_counts(sent: Receiver) -> None:
    """No more roots than the client's and the tasks': none of the worker's own, none of the broker's commands."""
    assert len(sent.transactions) == len(STYLES) + RUNS
    commands = {span.get("description", "").split(" ")[0] for span in _spans(sent) if span.get("op") == "db.redis"}
    assert not commands & {"PING", "LLEN", "BRPOP", "LPUSH", "SADD"}
    assert not sent.faults


def test_policies(sent: Receiver) -> None:
    """`link` begins a trace that links to the message, `new` one that does not; the user arrives all the same."""
    for style, task in (("linked", "jobs.nap"), ("new", "jobs.ignore")):
        root, run = _root(sent, style), _root(sent, task)
        trace = run["contexts"]["trace"]
        assert trace["trace_id"] != root["contexts"]["trace"]["trace_id"]
        assert trace.get("parent_span_id") is None, trace["parent_span_id"]
        (published,) = [span for span in root["spans"] if span["op"] == "queue.publish"]
        links = [(one["trace_id"], one["span_id"]) for one in trace.get("links", ())]
        assert links == ([(published["trace_id"], published["span_id"])] if style == "linked" else [])
        assert run["user"]["id"] == "7"


def test_user_and_operation_arrive(sent: Receiver) -> None:
    """By header: id, user type, operation and module on every run and what is below it; no e-mail, no details."""
    for run in _runs(sent):
        assert run["user"] == {"id": "7", "data": {"user_type": "admin"}}, run["transaction"]
        for data in (run["contexts"]["trace"]["data"], *(span["data"] for span in run["spans"])):
            assert (data["user.id"], data["user_type"]) == ("7", "admin")
            assert (data["business.operation"], data["business.module"]) == ("checkout", "shop")
        assert "ann@example.com" not in str(run)
        assert "visa-4111" not in str(run)
    for event in sent.events:
        assert (event["user"]["id"], event["tags"]["user_type"]) == ("7", "admin")
        assert event["contexts"]["business_context"]["operation"] == "checkout"


def test_failures(sent: Receiver) -> None:
    """Each once, a retry when it is the last one; time limits grouped by task; arguments only with PII on."""
    found = {event["transaction"]: event for event in sent.events}
    assert sorted(found) == ["jobs.fail_at_last", "jobs.fail_with", "jobs.too_slow_to_finish"]
    assert len(sent.events) == 3
    limit = found["jobs.too_slow_to_finish"]
    assert limit["fingerprint"] == ["celery", "SoftTimeLimitExceeded", "jobs.too_slow_to_finish"]
    failed = found["jobs.fail_with"]
    assert failed["extra"]["celery-job"] == {
        "task_name": "jobs.fail_with",
        "args": "[Filtered]",
        "kwargs": "[Filtered]",
    }
    (run,) = [item for item in _runs(sent) if item["transaction"] == "jobs.fail_with"]
    assert failed["tags"]["celery_task_id"] == run["contexts"]["trace"]["data"]["messaging.message.id"]
    for item in (*sent.transactions, *sent.events):
        assert_relay_ok({name: value for name, value in item.items() if name != "_meta"})  # what was cut and scrubbed


def test_arguments_with_pii(valkey_url: str, tmp_path: pathlib.Path) -> None:
    """With PII on, the task's arguments are on its issue, as sentry-python has them, and scrubbed."""
    with Receiver() as receiver:
        env = _environ(receiver, valkey_url, tmp_path) | {"SENTRY_SEND_DEFAULT_PII": "1"}
        _client("jobs.fail_with.apply(('4711',), {'password': 'secret'})", env)
        (event,) = receiver.events
    assert event["extra"]["celery-job"] == {
        "task_name": "jobs.fail_with", "args": ["4711"], "kwargs": {"password": "[Filtered]"},
    }  # fmt: skip


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_nothing_leaks_between_tasks(valkey_url: str, tmp_path: pathlib.Path, pool: str) -> None:
    """Ann's and Bob's tasks, interleaved on a few threads or greenlets, and some of nobody's: each run has its own."""
    code = """
        for number in range(15):
            for user in ("ann", "bob", None):
                with trace.get_tracer("client").start_as_current_span("publisher"):
                    if user:
                        otel_sentry.set_user({"id": user})
                    jobs.hold.delay(user or "nobody")
    """
    with Receiver() as receiver:
        env = _environ(receiver, valkey_url, tmp_path)
        with worker(env, [f"--pool={pool}", "--concurrency=4", "--without-gossip"], tmp_path / "log"):
            _client(code, env)
            receiver.wait_for(lambda one: len(_runs(one)) >= 45 and len(one.events) >= 45, timeout=30)
        for event in receiver.events:
            owner = event["exception"]["values"][-1]["value"]
            assert event.get("user", {"id": "nobody"})["id"] == owner
        for run in _runs(receiver):
            (inner,) = [span for span in run["spans"] if span["description"].startswith("for ")]
            assert run.get("user", {"id": "nobody"})["id"] == inner["description"].removeprefix("for ")
            assert inner["data"].get("user.id", "nobody") == inner["description"].removeprefix("for ")


@pytest.mark.parametrize(
    ("setting", "seen"), [("0", {}), ("user.id,user.email", {"id": "7", "email": "ann@example.com"})]
)
def test_the_allow_list(valkey_url: str, tmp_path: pathlib.Path, setting: str, seen: dict[str, str]) -> None:
    """`OTEL_SENTRY_CELERY_CONTEXT`: what is not listed is not in the message; `0` leaves the header out."""
    code = """
        import json
        queue = []
        from celery import signals

        @signals.before_task_publish.connect
        def see(headers=None, **kwargs):
            queue.append(headers)

        publish("one", lambda: jobs.add.apply_async((1, 1), connection=jobs.app.connection_for_write("memory://")))
        open("SEEN", "w").write(json.dumps(queue[0].get("otel-sentry-context")))
    """.replace("SEEN", str(tmp_path / "seen"))
    with Receiver() as receiver:
        env = _environ(receiver, valkey_url, tmp_path) | {"OTEL_SENTRY_CELERY_CONTEXT": setting}
        _client(code, env)
    found = json.loads((tmp_path / "seen").read_text()) or {}
    assert found == {f"user.{key}": value for key, value in seen.items()}


def test_broker_spans_on_request(valkey_url: str, tmp_path: pathlib.Path) -> None:
    """`OTEL_SENTRY_CELERY_BROKER_SPANS=1` shows what publishing takes, and Redis commands outside of any trace."""
    with Receiver() as receiver:
        env = _environ(receiver, valkey_url, tmp_path) | {"OTEL_SENTRY_CELERY_BROKER_SPANS": "1"}
        _client("publish('one', jobs.eager.delay)\njobs.app.backend.client.ping()", env)
        commands = [span["description"] for span in _root(receiver, "one")["spans"] if span["op"] == "db.redis"]
        assert any(command.startswith("LPUSH") for command in commands), commands
        assert [item["transaction"] for item in receiver.transactions].count("PING") == 1
