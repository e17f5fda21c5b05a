"""sentry_sdk's way out: its envelopes become items of our own queue (decision 11)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from otel_sentry import counters, guard, runtime
from otel_sentry.sentry.sender import Categories, Envelope, Ready

#: Item type -> category of quotas and client reports. Ours, since sentry_sdk 3.0 counts a transaction as
#: "default".
_CATEGORIES = {
    "event": "error",
    "transaction": "transaction",
    "session": "session",
    "sessions": "session",
    "attachment": "attachment",
    "check_in": "monitor",
    "log": "log_item",
    "trace_metric": "trace_metric",
    "profile": "profile",
    "profile_chunk": "profile_chunk",
    "span": "span",
    "client_report": "internal",
}
#: Reasons that sentry_sdk gives when a processor or hook (and ours wrap them all) returned None.
_BY_US = frozenset({"event_processor", "before_send", "callback_error"})
_local = threading.local()
_BULK = frozenset({"log", "trace_metric", "profile", "profile_chunk", "span", "transaction"})


def make(dsn_text: str, on_event: Callable[[dict[str, Any]], None]) -> Any:
    """A sentry_sdk `Transport`. *on_event* is called with each error event that really leaves.

    An instance has to be given to `init`: without a DSN a class would be ignored.
    """
    from sentry_sdk.transport import Transport

    class SenderTransport(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            with guard.block("sentry_sdk transport"):
                _put(envelope, on_event)

        def record_lost_event(
            self, reason: str, data_category: Any = None, item: Any = None, *, quantity: int = 1
        ) -> None:
            with guard.block("sentry_sdk transport"):
                _lost(reason, data_category, item, quantity)

        def flush(self, timeout: float, callback: Any = None) -> None:
            current = runtime.get()
            if current is not None and current.sender is not None:
                with guard.block("sentry_sdk transport"):
                    current.sender.flush(timeout)

        def kill(self) -> None:
            """Nothing: the sender outlives a client of sentry_sdk."""

    return SenderTransport({"dsn": dsn_text, "org_id": None})


def expect_loss(category: str) -> None:
    """The drop that sentry_sdk reports next on this thread has been accounted for."""
    _local.expected = category


def _put(envelope: Any, on_event: Callable[[dict[str, Any]], None]) -> None:
    current = runtime.get()
    categories = _categories(envelope)
    if current is None or current.sender is None:
        for category, quantity in categories:
            counters.lost("internal_sdk_error", category, quantity)
        return
    urgent = not all(item.type in _BULK for item in envelope.items)
    queued = current.sender.put(Ready(Envelope(envelope.serialize(), categories)), urgent=urgent)
    event = envelope.get_event()
    if event is not None and queued:
        on_event(event)


def _categories(envelope: Any) -> Categories:
    return tuple((_category(item), _quantity(item)) for item in envelope.items)


def _category(item: Any) -> str:
    return _CATEGORIES.get(item.type or "", "default")


def _quantity(item: Any) -> int:
    """Containers (logs, metrics, spans v2) say how many they hold."""
    count = item.headers.get("item_count")
    return count if isinstance(count, int) and count > 0 else 1


def _lost(reason: str, category: Any, item: Any, quantity: int) -> None:
    category = _category(item) if item is not None else str(category or "default")
    expected, _local.expected = getattr(_local, "expected", None), None
    if expected == category and reason in _BY_US:
        return
    counters.lost(reason, category, _quantity(item) if item is not None else quantity)
