"""Many small items in one envelope: Sentry's containers for logs and metrics.

A record is put down on the caller's thread; a full batch, or what is there after `INTERVAL_S`, goes to the sender, on
whose thread it is scrubbed, shown to the user's hook and encoded. Wire format as of sentry-sdk 2.75 (develop docs,
"Logs" and "Metrics").
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple, Protocol

from otel_sentry import counters, guard, runtime
from otel_sentry.runtime import Runtime
from otel_sentry.sentry.envelope import dumps, plain
from otel_sentry.sentry.outgoing import Categories, Envelope
from otel_sentry.sentry.transaction import SDK
from otel_sentry.sentry.typed import typed

#: Seconds that a record waits for others.
INTERVAL_S = 5.0
#: Bytes of memory, about, at which a batch is full whatever its number of items.
MAX_BYTES = 512_000
#: Logs and metrics are refused once the queue is this full: the rest is for spans and errors.
SHARE = 0.5

_here = threading.local()


class Record(Protocol):
    """What a batch is made of: plain values."""

    size: int


class Kind(NamedTuple):
    """What sort of container."""

    item_type: str
    content_type: str
    category: str
    hook: str  # name of the setting with the user's hook
    max_items: int


LOG = Kind("log", "application/vnd.sentry.items.log+json", "log_item", "before_send_log", 100)
METRIC = Kind(
    "trace_metric", "application/vnd.sentry.items.trace-metric+json", "trace_metric", "before_send_metric", 1000
)

#: A record as the user's hook sees it (sentry-sdk's fields, plain attributes), and what that is on the wire.
AsHookSees = Callable[[Any, Runtime], dict[str, Any]]
OnWire = Callable[[dict[str, Any]], dict[str, Any]]


class Batcher:
    """Collects records of one *kind*. No locks: it is called under the garbage collector and in signal handlers."""

    def __init__(self, kind: Kind, prepare: AsHookSees, on_wire: OnWire) -> None:
        self.kind = kind
        self._prepare = prepare
        self._on_wire = on_wire
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """Start empty: in a forked child what is here is the parent's to send."""
        self._open: deque[Record] = deque()
        self._bytes = 0
        self._ticket: _Ticket | None = None

    def __len__(self) -> int:
        return len(self._open)

    def add(self, record: Record) -> None:
        """Put *record* down; it leaves with the others."""
        if inside():  # it would come from the encoding of another
            return
        current = runtime.get()
        if current is None or current.sender is None:
            return
        self._open.append(record)
        self._bytes += record.size
        if len(self._open) >= self.kind.max_items or self._bytes >= MAX_BYTES:
            self._hand_over(current)
            return
        ticket, now = self._ticket, time.monotonic()
        if ticket is None or now > ticket.not_before + INTERVAL_S:  # none, or the queue lost it
            self._ticket = ticket = _Ticket(self, now + INTERVAL_S)
            current.sender.put(ticket, share=SHARE)

    def flush(self) -> None:
        """Hand all that is here to the sender."""
        current = runtime.get()
        while self._open and current is not None:
            self._hand_over(current)

    def _hand_over(self, current: Runtime) -> None:
        taken: list[Record] = []
        while len(taken) < self.kind.max_items:
            try:
                taken.append(self._open.popleft())
            except IndexError:  # all taken, or another thread is at it too
                break
        self._bytes = 0
        if not taken:
            return
        if current.sender is None:
            counters.lost("internal_sdk_error", self.kind.category, len(taken))
            return
        current.sender.put(_Batch(self, taken), share=SHARE)

    def encode(self, records: list[Record]) -> Envelope | None:
        """The envelope for *records*; what can't be encoded, or the hook drops, is counted."""
        current = runtime.get()
        if current is None:
            counters.lost("internal_sdk_error", self.kind.category, len(records))
            return None
        _here.inside = True
        try:
            items = [item for record in records if (item := self._item(record, current)) is not None]
        finally:
            _here.inside = False
        return container(self.kind, items) if items else None

    def _item(self, record: Record, current: Runtime) -> dict[str, Any] | None:
        reason, item = "internal_sdk_error", None
        with guard.block(f"encoding a {self.kind.item_type} item"):
            seen: dict[str, Any] | None = self._prepare(record, current)
            hook = getattr(current.settings, self.kind.hook)
            if hook is not None and seen is not None:
                seen, reason = _run_hook(self.kind.hook, hook, seen)
            if seen is not None:
                reason, item = "internal_sdk_error", self._on_wire(seen)
        if item is None:
            counters.lost(reason, self.kind.category)
        return item


def inside() -> bool:
    """Is this thread encoding a batch? What the user's hook logs or counts then would never end."""
    return getattr(_here, "inside", False)


def _run_hook(name: str, hook: Callable[..., Any], item: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """What the hook left of *item*, and the reason of the loss if that is None (decision 8: raising drops it)."""
    reason, kept = "callback_error", None
    with guard.block(f"the {name} hook"):
        kept = hook(item, {})
        reason = "before_send"
    return kept, reason


class _Batch:
    """An `Outgoing` of records."""

    __slots__ = ("_batcher", "_records", "categories", "not_before", "size")

    def __init__(self, batcher: Batcher, records: list[Record]) -> None:
        self._batcher = batcher
        self._records = records
        self.size = sum(record.size for record in records)
        self.categories: Categories = ((batcher.kind.category, len(records)),)
        self.not_before = 0.0

    def ready(self, now: float) -> bool:
        """Always."""
        return True

    def encode(self) -> Envelope | None:
        """The envelope."""
        return self._batcher.encode(self._records)


class _Ticket:
    """An `Outgoing` that holds nothing: when its time comes, or at a flush, the open batch leaves."""

    __slots__ = ("_batcher", "categories", "not_before", "size")

    def __init__(self, batcher: Batcher, not_before: float) -> None:
        self._batcher = batcher
        self.not_before = not_before
        self.size = 0
        self.categories: Categories = ()

    def ready(self, now: float) -> bool:
        """Is the time over?"""
        return now >= self.not_before

    def encode(self) -> None:
        """Nothing of its own."""
        self._batcher._ticket = None
        self._batcher.flush()


def container(kind: Kind, items: list[dict[str, Any]]) -> Envelope:
    """The envelope that holds *items*."""
    payload = dumps({"version": 2, "items": items})
    sent_at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    head = {
        "type": kind.item_type,
        "item_count": len(items),
        "content_type": kind.content_type,
        "length": len(payload),
    }
    body = b"\n".join((dumps({"sent_at": sent_at, "sdk": SDK}), dumps(head), payload, b""))
    return Envelope(body, ((kind.category, len(items)),))


def attributes_of(attributes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Attributes of any kind as Sentry's containers have them: finite, bounded, typed; None is left out."""
    return typed({key: plain(value) for key, value in attributes.items()})


def common_attributes(current: Runtime) -> dict[str, Any]:
    """What is on every item: who sent it, from where."""
    settings = current.settings
    return {
        "sentry.sdk.name": SDK["name"],
        "sentry.sdk.version": SDK["version"],
        "sentry.environment": settings.environment,
        "sentry.release": settings.release or None,
        "server.address": settings.server_name or None,
    }


def trace_ids(trace_id: int, span_id: int) -> dict[str, str]:
    """``trace_id`` and, inside a span, ``span_id``. Outside of one all of this process shares one trace id, since
    Sentry wants one on each item."""
    if trace_id:
        return {"trace_id": f"{trace_id:032x}", "span_id": f"{span_id:016x}"}
    return {"trace_id": _process_trace[0]}


def _new_trace() -> None:
    _process_trace[:] = [os.urandom(16).hex()]


_process_trace: list[str] = []
_new_trace()
os.register_at_fork(after_in_child=_new_trace)
