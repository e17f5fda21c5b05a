"""What kind of broker an application has, and the headers of ours in its messages."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

#: Message header with the time of publishing, in seconds since the epoch; the same that sentry-python uses.
ENQUEUED_HEADER = "sentry-task-enqueued-time"
#: The size of the message's body in bytes, so that the worker knows it too.
SIZE_HEADER = "otel-sentry-body-size"
#: User and operation (`otel_sentry.ambient.carry`).
CONTEXT_HEADER = "otel-sentry-context"

#: kombu's driver types under the names of OTel's ``messaging.system``; others stay as they are.
_SYSTEMS = {"amqp": "rabbitmq", "sqs": "aws_sqs"}
_system_of_app: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def system_of(app: Any) -> str:
    """The broker's kind. Looks at the transport's class; connects to nothing."""
    known = _system_of_app.get(app)
    if known is None:
        driver = getattr(app.connection_for_write().get_transport_cls(), "driver_type", "")
        known = _system_of_app[app] = _SYSTEMS.get(driver, driver) or "celery"
    return known
