"""What real instrumentors on real servers become in Sentry: one golden output for all semantic-convention modes.

``scripts/golden.py`` writes it anew; read the difference before you commit it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support import golden
from tests.support.relay import findings

for module in ("celery", "django", "httpx", "psycopg", "psycopg2", "redis", "requests", "urllib3"):
    pytest.importorskip(f"opentelemetry.instrumentation.{module}")
    pytest.importorskip(module)

Run = Callable[[str], dict[str, list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def run(postgres_url: str, valkey_url: str) -> Run:
    """The transactions of one mode, as received; each mode runs once."""
    known: dict[str, dict[str, list[dict[str, Any]]]] = {}

    def transactions(mode: str) -> dict[str, list[dict[str, Any]]]:
        if mode not in known:
            known[mode] = golden.transactions(mode, postgres_url, valkey_url)
        return known[mode]

    return transactions


@pytest.mark.services
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["", "http/dup,database/dup"])
def test_modes_agree(run: Run, mode: str, postgres_url: str, valkey_url: str) -> None:
    """2.1: legacy and duplicated conventions give what the stable ones give, field by field."""
    urls = postgres_url, valkey_url
    assert golden.normalised(run(mode), *urls) == golden.normalised(run("http,database"), *urls)


@pytest.mark.services
@pytest.mark.slow
def test_golden(run: Run, postgres_url: str, valkey_url: str) -> None:
    """The output is the one that is stored, for the versions that it was stored for."""
    if json.loads((golden.FOLDER / "versions.json").read_text()) != golden.versions():
        pytest.skip("stored for other versions of the instrumented libraries")
    found = golden.normalised(run("http,database"), postgres_url, valkey_url)
    assert sorted(found) == golden.names()
    for name, events in found.items():
        assert events == golden.golden(name), f"{name}: scripts/golden.py writes it anew"


@pytest.mark.services
@pytest.mark.slow
def test_relay_takes_every_transaction(run: Run) -> None:
    """Sentry's own code neither rejects nor corrects anything in any of them."""
    events = [event for found in run("http,database").values() for event in found]
    assert len(events) > 20
    assert {event["transaction"]: findings(event) for event in events if findings(event)} == {}


# Sentry's modules, read from what is stored


def _spans(name: str, op: str) -> Iterator[dict[str, Any]]:
    for event in golden.golden(name):
        yield from (span for span in event["spans"] if span.get("op") == op)


@pytest.mark.parametrize("name", ["postgres_psycopg", "postgres_psycopg2"])
def test_queries(name: str) -> None:
    """3.6 Queries: op `db`, the system, the statement without values as description; SQLSTATE gives the status."""
    spans = list(_spans(name, "db"))
    assert {span["data"]["db.system"] for span in spans} == {"postgresql"}
    assert [(span["description"], span["status"]) for span in spans][:5] == [
        ("SELECT id FROM post WHERE title = %s AND id > ?", "ok"),
        ("INSERT INTO post (id, title) VALUES (?, ?)", "already_exists"),
        ("SELECT nothing FROM nowhere", "not_found"),
        ("SET statement_timeout = ?", "ok"),
        ("SELECT pg_sleep(?)", "cancelled"),
    ]
    assert "secret" not in json.dumps(golden.golden(name))


def test_queues() -> None:
    """3.6 Queues: both sides have system, destination, id and size; the consumer retries and latency, on the ROOT."""
    publish = list(_spans("celery_worker", "queue.publish"))
    process = [event["contexts"]["trace"] for event in golden.golden("celery_worker")]
    process = [trace for trace in process if trace.get("op") == "queue.process"]
    assert len(publish) == len(process) == 5
    both = {"messaging.system", "messaging.destination.name", "messaging.message.id", "messaging.message.body.size"}
    for span in (*publish, *process):
        assert both <= set(span["data"])
    for trace in process:
        assert {"messaging.message.retry.count", "messaging.message.receive.latency"} <= set(trace["data"])
    assert [trace["data"]["messaging.message.retry.count"] for trace in process].count(1) == 1


def test_caches() -> None:
    """3.6 Caches: key, hit, size and peer on a cache span that is the PARENT of the db.redis span."""
    (event,) = golden.golden("redis_commands")
    by_id = {span["span_id"]: span for span in event["spans"]}
    reads = [span for span in event["spans"] if span.get("op") == "cache.get"]
    assert [
        (span["description"], span["data"]["cache.hit"], span["data"].get("cache.item_size")) for span in reads
    ] == [
        ("shop:1", False, None),
        ("shop:1", True, 5),
        ("shop:1, shop:2", True, 8),
        ("shop:1", False, None),  # the pipeline's, around all of it
    ]
    for span in reads:
        assert {"cache.key", "network.peer.address", "network.peer.port"} <= set(span["data"])
    parents = [by_id[span["parent_span_id"]]["op"] for span in event["spans"] if span["parent_span_id"] in by_id]
    assert parents == [span["op"] for span in event["spans"] if span["op"].startswith("cache.")]
    assert "other" not in json.dumps(event)


def test_django_caches() -> None:
    """3.6 Caches: Django's cache framework, whatever the backend; Redis' command is below."""
    (event,) = golden.golden("django_caches")
    assert [span["op"] for span in event["spans"]] == [
        "cache.remove", "cache.get", "cache.put", "cache.get", "cache.get",
        "cache.put", "db.redis", "cache.get", "db.redis",
    ]  # fmt: skip
    assert [span["data"]["cache.hit"] for span in event["spans"] if span["op"] == "cache.get"] == [
        False, True, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["http_requests", "http_urllib3", "http_httpx"])
def test_requests(name: str) -> None:
    """3.6 Requests: METHOD and URL without query, the host, the status; no answer is an error with a class."""
    spans = list(_spans(name, "http.client"))[:4]
    assert [(span["description"].rpartition("/")[2], span["status"]) for span in spans] == [
        ("ok", "ok"), ("missing", "not_found"), ("busy", "unavailable"), ("nobody", "internal_error"),
    ]  # fmt: skip
    assert all(span["data"]["server.address"] == "127.0.0.1" for span in spans)
    assert spans[3]["data"]["error.type"] in ("ConnectionError", "NewConnectionError", "ConnectError")
    assert "secret" not in json.dumps(golden.golden(name))


def test_a_renamed_request() -> None:
    """2.2 step 0: `update_name` in a view wins over the route; the span stays a request."""
    renamed = [event for event in golden.golden("django_wsgi") if event["transaction"] == "checkout"]
    assert [(one["transaction_info"]["source"], one["contexts"]["trace"]["op"]) for one in renamed] == [
        ("custom", "http.server")
    ]
