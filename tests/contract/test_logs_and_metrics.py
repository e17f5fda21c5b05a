"""Log and metric items as Sentry's JavaScript packages read them (Relay's library knows neither)."""

from __future__ import annotations

import logging
import sys

from otel_sentry import ambient
from otel_sentry.logs import snapshot
from otel_sentry.sentry import batch, logs_v2, metrics_v2
from otel_sentry.sentry.metrics_v2 import Measurement
from tests.support.client import sentry_sdk_set_up
from tests.support.sentry_js import assert_js_ok, findings


def _record() -> logging.LogRecord:
    try:
        raise ValueError("no stock")
    except ValueError:
        exc_info = sys.exc_info()
    fields = {"name": "shop", "levelno": logging.ERROR, "msg": "order %d of %s: %r", "args": (7, "ann", {"a": [1]})}
    extra = {"amount": 9.5, "paid": True, "tags": ["a", "b"], "nothing": None, "ids": [1, 2], "nan": float("nan")}
    return logging.makeLogRecord({**fields, **extra, "exc_info": exc_info})


def test_logs_and_metrics() -> None:
    """Envelopes parse, ids, item counts and every attribute's type are as @sentry/core and @sentry/conventions say."""
    with sentry_sdk_set_up(release="r1", send_default_pii=True) as sentry:
        with sentry.tracer.start_as_current_span("job") as span:
            ambient.set_user({"id": 7, "email": "ann@example.com", "username": "ann"})
            taken = snapshot(_record(), pii=True)
            ids = span.get_span_context()
        outside = snapshot(_record())
        logs = logs_v2.batcher.encode([taken, outside])
        metrics = metrics_v2.batcher.encode(
            [
                Measurement(1.5, "price", "distribution", 9.5, "euro", {"plan": "pro"}, ids.trace_id, ids.span_id, 1),
                Measurement(1.5, "open", "gauge", 2.0, None, {}, 0, 0, 1),
            ]
        )
    assert logs is not None and metrics is not None
    assert_js_ok([logs.body, metrics.body])


def test_the_check_finds_faults() -> None:
    """A wrong count, a bad id and an untyped attribute are found: the check above can fail."""
    bad = batch.container(batch.LOG, [{"trace_id": "12", "attributes": {"user.id": 7}}])
    found = findings([bad.body.replace(b'"item_count":1', b'"item_count":2')])
    assert {"item_count 2 of 1", "trace_id 12", "user.id is not {value, type}"} <= set(found)
    infinite = batch.container(batch.METRIC, [{"trace_id": "1" * 32, "value": "inf", "attributes": {}}])
    assert "trace_metric value string" in findings([infinite.body])
