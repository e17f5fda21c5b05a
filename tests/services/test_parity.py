"""The mall under sentry-python's own integrations and under ours: what the events say differs by one table only.

The table is docs/parity.md too: `python -m tests.services.test_parity` writes it anew.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import pytest

from otel_sentry.cli.receiver import Receiver
from tests.support import mall
from tests.support.relay import assert_relay_ok

pytestmark = [pytest.mark.services, pytest.mark.once]
DOCS = pathlib.Path(__file__).parents[2] / "docs" / "parity.md"
Event = dict[str, Any]


class Row(NamedTuple):
    """One difference: a pattern of field names, what each side sends there, why. *when*: in which cases, a regex."""

    field: str
    native: str
    ours: str
    why: str
    when: str = ""


_MASKED = "the scrubber looks into texts, too"
_ON_TRANSACTION = "it is on the transaction of the same trace"

ERRORS = [
    Row("transaction", "`/orders/{what}/`", "`POST /orders/<str:what>/`",
        "OpenTelemetry's name: method and route as Django has it, the same on the span, the transaction and the error",
        "(?!.*task)"),
    Row("contexts.trace.op", "`event.django`, `queue.task.celery`", "`http.server`, `queue.process`",
        "the operation of the span that failed; signals have no span of their own"),
    Row("contexts.trace.origin", "`auto.http.django`", "-", _ON_TRANSACTION),
    Row("contexts.trace.status", "`internal_error`, in tasks", "-", _ON_TRANSACTION + ": the span has not ended"),
    Row("contexts.trace.description", "`...django._got_request_exception`", "-",
        "the name of sentry-python's own signal handler"),
    Row("contexts.trace.data.thread.*", "id and name of the thread", "-", _ON_TRANSACTION),
    Row("contexts.trace.parent_span_id", "the request's span, above that of `event.django`",
        "- in a request that begins a trace", "the failed span is the root"),
    Row("_meta.*", "where its scrubber removed something", "where ours did", "the two scrubbers differ in detail"),
    Row("breadcrumbs.*.type", "`default`, `redis`", "-", "Sentry's default"),
    Row("breadcrumbs.redis.data.*", "`GET ':1:shelf'` in parts", "its duration",
        "keys are data of users: only with their prefixes listed does a cache span have them"),
    Row("request.headers.cookie", "`[Filtered]`", "-", "with PII on there is `request.cookies`, without nothing"),
    Row("request.headers.x-forwarded-for", "empty, without PII", "`[Filtered]`", "says that there was one"),
    Row("request.query_string", "`password=hunter2`", "`password=[Filtered]`", _MASKED),
    Row("request.data.photo", "empty", "`<file of 3 bytes>`", "more is known without the content"),
    Row("*.vars.request", "`<WSGIRequest: GET '/?password=hunter2'>`", "`...password=[Filtered]'>`", _MASKED),
    Row("extra.celery-job.kwargs.password", "`hunter2`, with PII", "`[Filtered]`",
        "a password is no PII that one may choose to send", "pii "),
    Row("extra.sys.argv", "the command line", "-", "command lines hold passwords and DSNs"),
    Row("user.*", "with PII: read from the database where the view did not", "only what the request has loaded",
        "sentry-python's look-up is a query in each failing request; without PII neither side makes it",
        r"pii (?!in view$|in async view$)"),
    Row("breadcrumbs.query.*", "with PII: that look-up", "-", "as above", "pii ('logged'|captured)$"),
    Row("user.ip_address", "the first address in `X-Forwarded-For`, with PII", "the connection's, or by "
        "`OTEL_SENTRY_TRUSTED_PROXIES`", "anybody can send that header", "pii "),
    Row("sdk.name", "`sentry.python.django`", "`sentry.python`", "Django's integration is not installed"),
    Row("sdk.integrations", "all of them", "`logging`", "OpenTelemetry's instrumentations do their work"),
]  # fmt: skip

SPANS = [
    Row("root: queue.task.celery", "the task's transaction", "`queue.process`",
        "Sentry's newer name of it: the Queues page needs no second span"),
    Row("queue.process", "a span below the task's transaction", "the transaction itself", "as above"),
    Row("queue.submit.celery", "a span around each publishing", "`queue.publish`", "one span says it all"),
    Row("event.django", "a span for each receiver of Django's signals", "-",
        "OpenTelemetry has none, and they are half of all spans; what is slow in them has its own"),
    Row("db.redis", "the broker's commands, too", "-",
        "`queue.publish` measures them; `OTEL_SENTRY_CELERY_BROKER_SPANS`", r"page|publish|mall\.fail_at_last"),
    Row("view.response.render", "Django REST framework's rendering", "-", "OpenTelemetry has none"),
]  # fmt: skip

FORM = b"".join(
    b'--xx\r\nContent-Disposition: form-data; name="' + name + b"\r\n\r\n" + value + b"\r\n"
    for name, value in (
        (b'title"', b"lamp"), (b'password"', b"hunter2"), (b'photo"; filename="ann.png"', b"PNG"),
    )
) + b"--xx--\r\n"  # fmt: skip
HEADERS = {"X-Request-Id": "abc", "Authorization": "Bearer hunter2", "X-Forwarded-For": "192.0.2.1"}
AS_JSON = {**HEADERS, "Content-Type": "application/json"}
AS_FORM = {**HEADERS, "Content-Type": "multipart/form-data; boundary=xx"}
WORKER = ["-m", "celery", "-A", "mall.tasks", "worker", "--pool=solo", "--without-gossip", "--without-mingle",
          "-l", "INFO"]  # fmt: skip
#: What the events are told apart by: the message of the exception or of the log record.
CASES = [
    "in view", "in view with a form of 2", "in view with JSON of 2", "chained", "in signal", "in middleware",
    "3 shelves are empty", "'logged'", "asked for help", "captured", "in DRF with 1", "in async view",
    "in view with JSON of 1", "in task", "in retried task",
]  # fmt: skip
#: Django REST framework answers it itself with 500; sentry-python does not see it.
ONLY_OURS = "the warehouse is down"


class Sent(NamedTuple):
    """What one run of the mall has sent."""

    events: dict[str, Event]
    transactions: list[Event]


def visit(web: mall.Browser, asynchronous: mall.Browser) -> None:
    """Fail in every way."""
    web.enter("ann")
    asynchronous.cookie = web.cookie
    answers = [
        web.ask("/look/?q=1&password=hunter2", headers=HEADERS),
        web.ask("/form/", "POST", FORM, AS_FORM),
        web.ask("/order/", "POST", b'{"title":"lamp","password":"hunter2"}', AS_JSON),
        web.ask("/chain/", headers=HEADERS),
        web.ask("/buy/", headers=HEADERS),
        web.ask("/look/", headers={**HEADERS, "X-Fail": "1"}),
        web.ask("/api/orders/boom/", "POST", b'{"title":"lamp"}', AS_JSON),
        web.ask("/api/orders/down/", "POST", b'{"title":"lamp"}', AS_JSON),
        asynchronous.ask("/look-async/?q=1", headers=HEADERS),
        asynchronous.ask("/order/", "POST", b'{"title":"lamp"}', AS_JSON),
    ]
    assert answers == [500] * len(answers)
    pages = ("logged", "captured", "page", "publish/fail", "publish/fail_at_last")
    assert [web.ask(f"/{page}/", headers=HEADERS) for page in pages] == [200] * 5


def run(database: str, valkey_url: str, native: bool, pii: bool) -> Sent:
    """All cases, once."""
    more = {"MALL_NATIVE": "1"} if native else {}
    more |= {"MALL_PII": "1", "SENTRY_SEND_DEFAULT_PII": "1"} if pii else {}
    launcher = [sys.executable] if native else [str(mall.LAUNCHER), sys.executable]
    with Receiver() as receiver, tempfile.TemporaryDirectory() as folder:
        env = mall.environ(receiver, database, valkey_url, **more)
        with mall.processes(pathlib.Path(folder), env) as running:
            web = running.start([*launcher, "serve.py"])
            worker = running.start([*launcher, *WORKER])
            ports = running.wait_for(web, r"PORTS (\d+) (\d+)")
            running.wait_for(worker, r"celery@\S+ ready")
            visit(mall.Browser(int(ports[1])), mall.Browser(int(ports[2])))
            receiver.wait_for(lambda one: len(one.events) >= len(CASES) and len(one.transactions) >= 20, 30)
            time.sleep(0.3)
        events = receiver.events
        expected = CASES if native else [*CASES, ONLY_OURS]
        assert sorted(map(case_of, events)) == sorted(expected), running.text()
        return Sent({case_of(event): event for event in events}, receiver.transactions)


def case_of(event: Event) -> str:
    values = (event.get("exception") or {}).get("values")
    return str(values[-1]["value"] if values else event.get("message") or event["logentry"]["formatted"])


@pytest.fixture(scope="module")
def runs(postgres_url: str, valkey_url: str) -> Iterator[dict[tuple[bool, bool], Sent]]:
    """(native or ours, PII on or off) -> what was sent."""
    keys = [(native, pii) for native in (True, False) for pii in (True, False)]
    with mall.database(postgres_url, "ann") as database, ThreadPoolExecutor(4) as pool:
        made = pool.map(lambda key: run(database, valkey_url, *key), keys)
        yield dict(zip(keys, made, strict=True))


# --- Fields ---

_VARYING = re.compile(
    r"(event_id|timestamp|start_timestamp|contexts\.trace\.(trace_id|span_id|parent_span_id)|breadcrumbs\..*"
    r"|tags\.celery_task_id|contexts\.trace\.dynamic_sampling_context.*)"
)
#: Of the run, not of who reports it.
_NOISE = (
    (re.compile(r"127\.0\.0\.1:\d+"), "HOST"),
    (re.compile(r"0x[0-9a-f]+"), "0x"),
    (re.compile(r"^\d{5}$"), "PORT"),
)


def fields(event: Event) -> dict[str, str]:
    """Names of fields -> values as text. Lists of things alike (crumbs, frames) count by what they have in common."""
    event = json.loads(json.dumps(event))
    installed = event.pop("modules").items()
    found: dict[str, Any] = {"modules": sorted((re.sub("[-_.]+", "-", name), version) for name, version in installed)}
    for number, value in enumerate((event.pop("exception", None) or {}).get("values", ())):
        frames = [frame for frame in value["stacktrace"].pop("frames") if frame.get("in_app")]
        value["functions"] = [f"{frame['module']}.{frame['function']}" for frame in frames]
        for frame in frames:
            _walk(f"exception.{number}.{frame['function']}", frame, found)
        _walk(f"exception.{number}", value, found)
    for crumb in (event.pop("breadcrumbs", None) or {}).get("values", ()):
        kind = "log" if crumb.get("type") == "log" else crumb["category"]
        _walk(f"breadcrumbs.{kind}", crumb, found)
    request = event.get("request") or {}
    request["headers"] = {name.lower(): value for name, value in (request.get("headers") or {}).items()}
    _walk("", event, found)
    return {name: _plain(name, value) for name, value in found.items() if value is not None}


def _walk(path: str, value: Any, found: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for key, one in value.items():
            _walk(f"{path}.{key}" if path else key, one, found)
    else:
        found[path] = value


def _plain(name: str, value: Any) -> str:
    if _VARYING.fullmatch(name):
        return "*"
    text = str(value)
    for pattern, stand_in in _NOISE:
        text = pattern.sub(stand_in, text)
    return text


def differences(native: dict[str, str], ours: dict[str, str]) -> dict[str, tuple[str, str]]:
    """What native sends and ours sends not, or otherwise."""
    return {name: (value, ours.get(name, "-")) for name, value in native.items() if ours.get(name) != value}


def test_every_field_or_its_reason(runs: dict[tuple[bool, bool], Sent]) -> None:
    """Errors in views, signals, middleware, DRF, tasks, logs: each difference has its row, and no row is idle."""
    unexplained, used = [], set()
    for pii in (False, True):
        for case in CASES:
            pair = [fields(runs[native, pii].events[case]) for native in (True, False)]
            for name, values in differences(*pair).items():
                row = _row(ERRORS, name, ("pii " if pii else "") + case)
                used.add(row)
                if row is None:
                    unexplained.append((case, pii, name, *values))
    assert unexplained == [], "\n".join(map(str, unexplained))
    idle = [row.field for row in ERRORS if row not in used]
    assert idle == [], idle


def _row(rows: list[Row], name: str, case: str) -> Row | None:
    return next((row for row in rows if fnmatchcase(name, row.field) and re.match(row.when, case)), None)


def test_operations(runs: dict[tuple[bool, bool], Sent]) -> None:
    """Each transaction has all kinds of spans that native's has; what has none here is in the table."""
    native, ours = (operations(runs[which, False].transactions) for which in (True, False))
    assert set(native) <= set(ours)
    unexplained, used = [], set()
    for name, kinds in native.items():
        for kind in kinds - ours[name]:
            row = _row(SPANS, kind, name)
            used.add(row)
            if row is None:
                unexplained.append((name, kind))
    assert unexplained == []
    assert [row.field for row in SPANS if row not in used] == []


def operations(transactions: list[Event]) -> dict[str, set[str]]:
    """Name as sentry-python writes it -> the operations in it, the root's marked."""
    found: dict[str, set[str]] = {}
    for one in transactions:
        name = re.sub(r"<\w+:(\w+)>", r"{\1}", one["transaction"].rpartition(" ")[2])
        kinds = found.setdefault(name.strip("/"), set())
        kinds |= {f"root: {one['contexts']['trace']['op']}", *(span["op"] for span in one["spans"])}
    return found


def test_sentry_takes_ours_as_they_are(runs: dict[tuple[bool, bool], Sent]) -> None:
    """Relay has no objection to any event or transaction of ours."""
    for pii in (False, True):
        for one in (*runs[False, pii].events.values(), *runs[False, pii].transactions):
            assert_relay_ok({key: value for key, value in one.items() if key != "_meta"})  # our own remarks


def test_no_pii_without_leave(runs: dict[tuple[bool, bool], Sent]) -> None:
    """With PII off nothing of ours has the user's name, mail or address; with it on a failing view has all three."""
    quiet = runs[False, False]
    for one in (*quiet.events.values(), *quiet.transactions):
        text = json.dumps({**one, "breadcrumbs": None})  # what the application logs is the application's
        assert not re.search(r"ann@|192\.0\.2\.1|hunter2|\"username\": \"ann", text), text
    user = runs[False, True].events["in view"]["user"]
    assert (user["email"], user["username"], user["ip_address"]) == ("ann@example.com", "ann", "127.0.0.1")


# --- The document ---

HEAD = """# What sentry-python sends and we do not

The same application ran once under sentry-python's own integrations (Django, Celery, Redis) and once under ours.
Every field of its error events that sentry-python sends, otel-sentry sends too, with the same value, but for these:

"""
MIDDLE = """
Of the spans in transactions:

"""
TAIL = """
A test compares both sides field by field and fails when a difference is not in these tables, or when a row has become
untrue. Names of headers and of packages (`modules`) count without case and punctuation, breadcrumbs by category. It
covers errors in views, middleware, signals, async views, Django REST framework, tasks (also retried ones), logged and
captured ones; WSGI and ASGI; with and without PII. One error is ours alone: what Django REST framework answers itself
with a status of 5xx.
"""


def document() -> str:
    """docs/parity.md as it has to be."""
    return HEAD + _table("Field", ERRORS) + MIDDLE + _table("Operation", SPANS) + TAIL


def _table(first: str, rows: list[Row]) -> str:
    lines = [(first, "sentry-python", "otel-sentry", "Why"), ("---",) * 4]
    lines += [(f"`{row.field}`", row.native, row.ours, row.why) for row in rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def test_the_document_is_up_to_date() -> None:
    """docs/parity.md says what the tables here say."""
    assert DOCS.read_text() == document(), "run `python -m tests.services.test_parity`"


if __name__ == "__main__":
    DOCS.parent.mkdir(exist_ok=True)
    DOCS.write_text(document())
