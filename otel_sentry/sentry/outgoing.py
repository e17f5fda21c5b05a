"""What the sender is given, and the books it keeps on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from otel_sentry import counters

#: ``(("transaction", 1), ("span", 12))``: Sentry's data categories and how many of each. A limit on the
#: first holds back all.
Categories = tuple[tuple[str, int], ...]

_WORDS = {
    "error": ("error", "errors"),
    "transaction": ("transaction", "transactions"),
    "span": ("span", "spans"),
    "log_item": ("log record", "log records"),
    "session": ("session", "sessions"),
    "monitor": ("check-in", "check-ins"),
    "trace_metric": ("metric", "metrics"),
    "profile_chunk": ("profile chunk", "profile chunks"),
}


class Envelope(NamedTuple):
    """A whole envelope (header line and items), uncompressed, and what it counts as.

    *via* names the target that takes it (`Target.via`): "" for envelopes, `otlp` for OpenTelemetry's own format.
    """

    body: bytes
    categories: Categories
    via: str = ""


class Outgoing(Protocol):
    """Something that becomes an envelope on the sender's thread."""

    @property
    def size(self) -> int:
        """Bytes of memory it holds, about; must not change."""

    @property
    def not_before(self) -> float:
        """Monotonic time (seconds) up to which it may have to wait for late children."""

    @property
    def categories(self) -> Categories:
        """What is lost with it when it is dropped before it was encoded."""

    def ready(self, now: float) -> bool:
        """May it be encoded at *now* (monotonic seconds)?"""

    def encode(self) -> Envelope | None:
        """The envelope, or None when there is nothing to send after all (the item has accounted for it)."""


class Ready:
    """An `Outgoing` of bytes that are there already."""

    __slots__ = ("attempts", "categories", "envelope", "first_failed", "losses", "not_before", "size")

    def __init__(self, envelope: Envelope, size: int | None = None, losses: Iterable[counters.Loss] = ()) -> None:
        self.envelope = envelope
        self.categories = envelope.categories
        self.size = len(envelope.body) if size is None else size
        self.not_before = 0.0
        self.losses = tuple(losses)  # what a client report reports: back to the counters if it is lost
        self.attempts = 0
        self.first_failed = 0.0

    def ready(self, now: float) -> bool:
        """Always."""
        return True

    def encode(self) -> Envelope:
        """The envelope it was made of."""
        return self.envelope


class Ledger:
    """Where every item ended up, by category. ``+=`` on these dicts is one step under the GIL."""

    def __init__(self) -> None:
        self.delivered: defaultdict[str, int] = defaultdict(int)
        self.refused: defaultdict[str, int] = defaultdict(int)
        self._undelivered: defaultdict[tuple[str, str], int] = defaultdict(int)

    def deliver(self, categories: Categories) -> None:
        """The server took them."""
        for category, quantity in categories:
            self.delivered[category] += quantity

    def refuse(self, categories: Categories) -> None:
        """The server answered 429: it counts them itself, so they are in no client report of ours."""
        for category, quantity in categories:
            self.refused[category] += quantity
            self._undelivered["rate limited", category] += quantity

    def lose(self, item: Outgoing, reason: str, why: str) -> None:
        """*item* will not be sent: *reason* for the client report, *why* for the user."""
        if isinstance(item, Ready) and item.losses:
            counters.put_back(item.losses)
        for category, quantity in item.categories:
            counters.lost(reason, category, quantity)
            self._undelivered[why, category] += quantity

    def undelivered(self) -> str:
        """``3 errors, 12 spans not delivered: connection refused by HOST; ...``, or "" when all was."""
        by_reason: dict[str, list[str]] = {}
        for (why, category), quantity in list(self._undelivered.items()):
            words = _WORDS.get(category, (category, category))
            by_reason.setdefault(why, []).append(f"{quantity} {words[quantity != 1]}")
        return "; ".join(f"{', '.join(parts)} not delivered: {why}" for why, parts in by_reason.items())
