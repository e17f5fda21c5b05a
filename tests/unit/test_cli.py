"""The command `otel-sentry`: trees, issues, the table of settings, and how mistakes are told."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from typing import Any

import pytest

from otel_sentry import settings
from otel_sentry._version import __version__
from otel_sentry.cli import config, main, paint, tree
from otel_sentry.cli.demo import where_to_look
from otel_sentry.cli.screen import Screen
from otel_sentry.demo import checks, traffic

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
DSN = "https://0123456789abcdef@o12.ingest.example.test/34"


def transaction(
    name: str,
    op: str,
    span_id: str,
    start: float,
    seconds: float,
    *spans: dict[str, Any],
    parent: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A transaction as it is in an envelope."""
    trace = {
        "trace_id": TRACE,
        "span_id": span_id,
        "parent_span_id": parent,
        "op": op,
        "status": "ok",
        **more,
    }
    return {
        "type": "transaction",
        "transaction": name,
        "start_timestamp": start,
        "timestamp": start + seconds,
        "contexts": {"trace": trace},
        "spans": list(spans),
    }


def span(name: str, op: str, span_id: str, parent: str, start: float, seconds: float, **more: Any) -> dict[str, Any]:
    """A span of a transaction."""
    times = {"start_timestamp": start, "timestamp": start + seconds}
    return {"span_id": span_id, "parent_span_id": parent, "op": op, "description": name, **times, **more}


def error(kind: str, value: str, span_id: str, **more: Any) -> dict[str, Any]:
    """An error event."""
    frames = [
        {
            "module": "posts.views",
            "function": "broken",
            "filename": "posts/views.py",
            "lineno": 7,
            "in_app": True,
        },
        {
            "module": "django.db",
            "function": "execute",
            "filename": "django/db.py",
            "lineno": 9,
            "in_app": False,
        },
    ]
    exception = {
        "type": kind,
        "value": value,
        "stacktrace": {"frames": frames},
        "mechanism": {"handled": False},
    }
    trace = {"trace_id": TRACE, "span_id": span_id}
    return {"exception": {"values": [exception]}, "contexts": {"trace": trace}, **more}


WEB = transaction(
    "POST /posts/", "http.server", "a1", 100.0, 0.084,
    span("posts.tasks.render_post", "queue.publish", "a3", "a1", 100.05, 0.003),
    span("INSERT INTO posts_post", "db", "a2", "a1", 100.01, 0.0021),
)  # fmt: skip
WORKER = transaction("posts.tasks.render_post", "queue.process", "b1", 100.06, 0.041, parent="a3")


def worker_with(**changes: Any) -> dict[str, Any]:
    """The worker's transaction with another trace context."""
    return {**WORKER, "contexts": {"trace": {**WORKER["contexts"]["trace"], **changes}}}


def test_tree_joins_the_processes_of_one_trace() -> None:
    """The worker's transaction hangs on the span that published it, and spans are in the order of time."""
    assert tree.trace_tree([WORKER, WEB]).splitlines() == [
        "POST /posts/  http.server  ok  84 ms  [web]",
        "├─ INSERT INTO posts_post  db  2.1 ms",
        "└─ posts.tasks.render_post  queue.publish  3.0 ms",
        "   └─ posts.tasks.render_post  queue.process  ok  41 ms  [worker]",
    ]


def test_tree_marks_errors_where_they_happened() -> None:
    """An event's exception is the first line below its span."""
    lines = tree.trace_tree([WEB, WORKER], [error("ExportFailed", "no printer", "b1")]).splitlines()
    assert lines[-1] == "      └─ ✗ ExportFailed: no printer"


def test_tree_folds_equal_leaves() -> None:
    """Equal spans in a row are one line with their number and their time in all; others keep their own."""
    spans = [span("GET ?", "db.redis", f"c{n}", "a1", 100 + n / 100, 0.002) for n in range(3)]
    spans.append(span("SET ?", "db.redis", "d", "a1", 100.2, 0.002))
    lines = tree.trace_tree([transaction("GET /", "http.server", "a1", 100.0, 1.5, *spans)]).splitlines()
    assert lines == [
        "GET /  http.server  ok  1.50 s  [web]",
        "├─ GET ?  ×3  db.redis  6.0 ms",
        "└─ SET ?  db.redis  2.0 ms",
    ]


def test_tree_keeps_orphans_and_failures() -> None:
    """A span whose parent was dropped stays in its transaction; a bad status is shown; long text is cut."""
    lost = span("SELECT " + "x" * 200, "db", "e", "gone", 100.0, 0.02, status="deadline_exceeded")
    lines = tree.trace_tree([transaction("GET /", "http.server", "a1", 100.0, 0.1, lost)]).splitlines()
    assert lines[1].startswith("└─ SELECT xxx")
    assert lines[1].endswith("…  db  deadline_exceeded  20 ms")


def test_tree_shortens_sql() -> None:
    """Of a query the columns and quotes are left out, so that the table is on the line."""
    query = span('SELECT "posts_post"."id", "posts_post"."title" FROM "posts_post"', "db", "e", "a1", 100.0, 0.02)
    lines = tree.trace_tree([transaction("GET /", "http.server", "a1", 100.0, 0.1, query)]).splitlines()
    assert lines[1] == "└─ SELECT … FROM posts_post  db  20 ms"


def test_traces_are_told_apart() -> None:
    """Transactions are grouped by trace id, each group by time; RFC 3339 times are understood."""
    other = transaction("GET /", "http.server", "f1", 50.0, 0.1)
    other["contexts"]["trace"]["trace_id"] = "0" * 31 + "1"
    other["start_timestamp"] = "1970-01-01T00:00:50Z"
    grouped = tree.by_trace([WORKER, WEB, other])
    assert [[one["transaction"] for one in group] for group in grouped.values()] == [
        ["GET /"],
        ["POST /posts/", "posts.tasks.render_post"],
    ]


def test_issue_says_what_where_and_what_came_before() -> None:
    """Type, value, innermost frame of the app, trace, user and the last breadcrumbs are shown."""
    crumbs = [{"category": "query", "message": f"SELECT {number}"} for number in range(6)]
    event = error("ZeroDivisionError", "division by zero", "a1", user={"id": "7"}, breadcrumbs={"values": crumbs})
    text = tree.issue(event)
    assert text.startswith(
        "✗ ZeroDivisionError: division by zero\n  in posts.views.broken (posts/views.py:7)   unhandled\n"
    )
    assert f"trace {TRACE}  span a1" in text
    assert "user 7" in text
    assert "SELECT 5" in text
    assert "SELECT 1" not in text


def test_message_events_are_issues_too() -> None:
    """An event without an exception shows its level and its message."""
    assert tree.issue({"level": "error", "logentry": {"message": "no paper"}}).startswith("✗ error: no paper\n")


def test_colours_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that is no terminal, or NO_COLOR, gets no escape sequence."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert paint.paint_for(io.StringIO()) is paint.plain
    assert "\x1b" in tree.trace_tree([WEB], paint=paint.paint_for(Terminal()))
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint.paint_for(Terminal()) is paint.plain


def test_steps_are_one_line_without_a_terminal() -> None:
    """Progress in a file is one line per step, with its duration, also when the step fails."""
    out = io.StringIO()
    screen = Screen(out)
    with screen.step("one"):
        pass
    with pytest.raises(ValueError, match="boom"), screen.step("two"):
        raise ValueError("boom")
    assert out.getvalue() == "✓ one  0.0 s\n✗ two  0.0 s\n"


STEP = traffic.Step(
    "create",
    lambda visitor: 201,
    201,
    ("POST /posts/", "posts.tasks.render_post"),
    spans=("INSERT",),
    absent=("DELETE",),
)


def test_checks_accept_what_is_right() -> None:
    """A step with all its transactions, right parents, statuses and spans has nothing missing."""
    assert checks.missing(STEP, [WEB, WORKER], []) == []
    assert checks.complete(STEP, [WEB, WORKER], [])


@pytest.mark.parametrize(
    ("worker", "events", "problem"),
    [
        (None, [], "transaction posts.tasks.render_post"),
        (worker_with(trace_id="1" * 32), [], "one trace"),
        (worker_with(parent_span_id="ff"), [], "the parent of"),
        (worker_with(status="unknown"), [], "status ok of"),
        (WORKER, [error("IntegrityError", "twice", "a1")], "no issue IntegrityError"),
    ],
)  # fmt: skip
def test_checks_find_what_is_wrong(worker: dict[str, Any] | None, events: list[dict[str, Any]], problem: str) -> None:
    """A lost transaction, a broken trace, a wrong parent or status and an issue too many are each named."""
    found = checks.missing(STEP, [WEB] if worker is None else [WEB, worker], events)
    assert any(one.startswith(problem) for one in found), found


def test_checks_want_issues_on_a_span_of_the_trace() -> None:
    """An issue that is in another trace than its request is wrong; the same issue twice is wrong, too."""
    step = traffic.Step("bug", lambda visitor: 500, 500, ("POST /posts/",), issues=("KeyError",))
    assert checks.missing(step, [WEB], [error("KeyError", "x", "a2")]) == []
    assert checks.missing(step, [WEB], [error("KeyError", "x", "zz")]) == ["issue KeyError on a span of its trace"]
    assert checks.missing(step, [WEB], [error("KeyError", "x", "a2")] * 2) == ["one issue KeyError, but there are 2"]


def test_config_shows_every_setting_and_its_origin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each row of the table is printed with value and origin; keys and passwords are not."""
    monkeypatch.setenv("SENTRY_DSN", DSN)
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy.example.test:3128")
    monkeypatch.setenv("SENTRY_ENVIRONMENT", "staging")
    assert main(["config"]) == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert list(lines) == [row.name for row in settings.rows()]
    assert "0123456789abcdef" not in out
    assert "secret" not in out
    assert lines["dsn"].split() == ["dsn", "https://***@o12.ingest.example.test/34", "SENTRY_DSN"]
    assert lines["traces_sample_rate"].split() == ["traces_sample_rate", "0.5", "preset", "staging"]


def test_config_as_markdown_is_the_table_of_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    """The markdown table has one row per setting: variables, default, meaning; no value of this machine."""
    assert main(["config", "--format", "markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| Variable | Default | Meaning |"
    assert len(lines) == len(settings.rows()) + 2
    assert lines[2].startswith("| `SENTRY_DSN` | unset | ")


def test_config_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON holds the same rows, secrets masked; a value that does not parse is one line on stderr."""
    monkeypatch.setenv("SENTRY_DSN", DSN)
    monkeypatch.setenv("SENTRY_ENVIRONMENT", "production")
    monkeypatch.setenv("SENTRY_SAMPLE_RATE", "eleven")
    assert main(["config", "--format", "json"]) == 0
    captured = capsys.readouterr()
    rows = {row["name"]: row for row in json.loads(captured.out)["settings"]}
    assert rows["dsn"]["value"] == "https://***@o12.ingest.example.test/34"
    assert rows["sample_rate"]["value"] == 1.0
    assert len(captured.err.splitlines()) == 1
    assert "SENTRY_SAMPLE_RATE" in captured.err


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        (DSN, "https://***@o12.ingest.example.test/34"),
        ("0123456789abcdef", "***"),
        ("http://a:b@h/?k=s", "http://***@h/"),
    ],
)
def test_secrets_are_masked(secret: str, shown: str) -> None:
    """Only scheme, host and path of an address are shown; text that is no address is hidden altogether."""
    assert config.masked(secret) == shown


def test_module_runs_as_the_command() -> None:
    """`python -m otel_sentry --version` prints the version, and loads neither SDK on the way."""
    code = (
        "import runpy, sys; sys.argv = ['otel-sentry', '--version']\n"
        "try: runpy.run_module('otel_sentry', run_name='__main__')\n"
        "except SystemExit as exc: assert not exc.code, exc.code\n"
        "assert not {'sentry_sdk', 'opentelemetry.sdk', 'django'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, f"otel-sentry {__version__}\n"), done.stderr


@pytest.mark.parametrize("arguments", [[], ["dmo"], ["demo", "--port", "none"], ["demo", "--once", "--keep"]])
def test_mistakes_are_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong arguments: one line on stderr, status 2."""
    assert main(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_demo_without_its_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not installed is named in one line, with the command that installs it."""
    from otel_sentry.demo import stack

    monkeypatch.setattr(stack, "missing_packages", lambda: ["Celery"])
    assert main(["demo"]) == 2
    assert capsys.readouterr().err == "otel-sentry demo: Celery not installed; run: pip install 'otel-sentry[demo]'\n"


def test_demo_refuses_a_dsn_that_does_not_parse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong SENTRY_DSN is told before anything starts, without its key."""
    monkeypatch.setenv("SENTRY_DSN", "https://0123456789abcdef@host.example.test/shop")
    assert main(["demo"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("otel-sentry demo: SENTRY_DSN")
    assert "0123456789abcdef" not in told
    assert len(told.splitlines()) == 1


def test_demo_says_where_it_sent_to() -> None:
    """With a DSN of the user's the last lines name host and project, and never the key."""
    text = where_to_look({"SENTRY_DSN": DSN, "SENTRY_SPOTLIGHT": "1"})
    assert "o12.ingest.example.test, project 34" in text
    assert "Spotlight" in text
    assert "0123456789abcdef" not in text


def test_spinner_moves_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a step goes on, a terminal sees the seconds count; the line is wiped when it is done."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    with Screen(out).step("waiting", keep=False):
        time.sleep(0.5)
    assert "⠙ waiting  0." in out.getvalue()
    assert out.getvalue().endswith("\r\x1b[K")


def test_report_of_features_and_thresholds() -> None:
    """A feature's name may have blanks; what is suggested is compared with the threshold in force."""
    from otel_sentry.business import daily
    from otel_sentry.business.catalogue import THRESHOLDS
    from otel_sentry.business.memory import Memory
    from otel_sentry.cli import report

    store, days = Memory(), daily.last_days(1)
    for name, labels, entry in (
        ("feature.used", {"feature": "video upload", "usage": "first try"}, {"n": 5}),
        ("feature.users", {"feature": "video upload"}, {"max": 3}),
        ("app.request.duration", {"route": "GET /"}, {"n": 200, "sum": 600.0, "max": 3.0, "b": {"6": 200}}),
    ):
        store.save(f"day:{days[0]}:{name}", {json.dumps(labels): entry}, 60)
    text = report.report(store, days, {**THRESHOLDS, "slow_request_ms": 1000.0})
    assert "video upload first try  (up to 3 users a day)" in text
    assert "instead of 1.0 s" in text and "OTEL_SENTRY_SLOW_MS=GET /=" in text
