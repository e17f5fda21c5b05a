"""Messages: what Sentry's Queues module reads (`queue.publish`, `queue.process`, and the steps between)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import SpanKind

from otel_sentry.convention.naming import MAX_NAME, cut
from otel_sentry.convention.view import Meaning, View

OPS = {
    "publish": "queue.publish",
    "send": "queue.publish",
    "create": "queue.create",
    "receive": "queue.receive",
    "recv": "queue.receive",
    "poll": "queue.receive",
    "process": "queue.process",
    "deliver": "queue.process",
    "consume": "queue.process",
    "settle": "queue.settle",
    "ack": "queue.settle",
    "nack": "queue.settle",
    "commit": "queue.settle",
    "run": "queue.process",
    "apply_async": "queue.publish",
}
#: botocore says the operation of SQS and SNS in `rpc.method` only.
_AWS_OPS = {
    "SendMessage": "queue.publish",
    "SendMessageBatch": "queue.publish",
    "Publish": "queue.publish",
    "PublishBatch": "queue.publish",
    "ReceiveMessage": "queue.receive",
    "DeleteMessage": "queue.settle",
    "DeleteMessageBatch": "queue.settle",
    "ChangeMessageVisibility": "queue.settle",
}
_CELERY_PREFIXES = ("run/", "apply_async/")
_KINDS = (SpanKind.PRODUCER, SpanKind.CONSUMER)


def is_celery(view: View) -> bool:
    """contrib's Celery never sets `messaging.system`; no generic rule would find it."""
    if "celery.action" in view.folded:
        return True
    if view.kind not in _KINDS or not view.name.startswith(_CELERY_PREFIXES):
        return False
    # At the start only the name is there: contrib sets the attributes of a run at its end.
    return view.library == "celery" or (not view.library and "messaging.system" not in view.data)


def celery(view: View) -> Meaning:
    """The task's name, with the attributes of the Queues module in place of contrib's."""
    data, folded = view.data, view.folded
    action, _, rest = view.name.partition("/")
    action = str(folded.get("celery.action", action))
    task = str(data.get("celery.task_name") or rest or view.name)
    op = OPS.get(action, "queue.process" if view.kind is SpanKind.CONSUMER else "queue.publish")
    data.setdefault("messaging.system", "celery")
    data["messaging.operation.type"] = op.rpartition(".")[2]
    _celery_destination(data, folded)
    if op == "queue.process":
        retries = folded.get("celery.retries")
        data.setdefault("messaging.message.retry.count", retries if isinstance(retries, int) else 0)
    text = cut(task, MAX_NAME)
    return Meaning(op, text, text, "task")


def _celery_destination(data: dict[str, Any], folded: Mapping[str, Any]) -> None:
    """The queue's name: the routing key says it, but only on the default exchange (sentry-python's rule)."""
    delivery = folded.get("celery.delivery_info")
    queue = folded.get("celery.queue")
    named_exchange = isinstance(delivery, str) and "'exchange'" in delivery and "'exchange': ''" not in delivery
    if queue and (named_exchange or "messaging.destination.name" not in data):
        data["messaging.destination.name"] = queue
    elif "celery.routing_key" in folded:
        data.setdefault("messaging.destination.name", folded["celery.routing_key"])


def is_queue(view: View) -> bool:
    """By the span's kind, or a system together with an operation (SQS, SNS, Pub/Sub are CLIENT spans too)."""
    if view.kind in _KINDS:
        return True
    data = view.data
    return "messaging.system" in data and (
        "messaging.operation.type" in data or "messaging.operation.name" in data or data.get("rpc.method") in _AWS_OPS
    )


def queue(view: View) -> Meaning:
    """The destination's name, under the op of what is done with the message."""
    text = cut(str(view.data.get("messaging.destination.name") or view.name), MAX_NAME)
    return Meaning(_op(view), text, text, "task")


def _op(view: View) -> str:
    data = view.data
    for key in ("messaging.operation.type", "messaging.operation.name"):
        if op := OPS.get(str(data.get(key)).lower()):
            return op
    if op := _AWS_OPS.get(str(data.get("rpc.method"))):
        return op
    # kafka-python and aiokafka say it in the name: `orders receive`, or `poll orders`.
    words = view.name.split()
    for word in (words[-1:] + words[:1]) if len(words) > 1 else ():
        if op := OPS.get(word.lower()):
            return op
    return "queue.process" if view.kind is SpanKind.CONSUMER else "queue.publish"
