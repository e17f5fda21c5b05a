"""One item's way over the wire: encode, compress, post, and what the answer means to Sentry's SDKs."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import NamedTuple
from urllib.parse import urlsplit

from otel_sentry import counters, guard
from otel_sentry._version import __version__
from otel_sentry.sentry import http
from otel_sentry.sentry.outgoing import Envelope, Outgoing, Ready
from otel_sentry.sentry.ratelimit import Breaker, RateLimits

DELIVERED, REFUSED, RETRY, LOST, NOTHING = "delivered", "refused", "retry", "lost", "nothing"

_CONTENT = {"Content-Type": "application/x-sentry-envelope", "User-Agent": f"otel-sentry/{__version__}"}
_REPORT_WITH_OTHERS_S = 5.0
REPORT_ALONE_S = 30.0
#: Answers of 5xx to one item, while others get through, after which it is that item's fault.
_ATTEMPTS = 5


class Target(NamedTuple):
    """Where to post. The primary is Sentry; any other (Spotlight) gets the same envelopes, tried once.

    One with *via* is another intake of the primary's, and gets only the envelopes that name it.
    """

    url: str
    headers: Mapping[str, str]
    primary: bool = True
    via: str = ""


class Outcome(NamedTuple):
    """What became of *item*: *reason* is the client report's, *why* is for the user."""

    kind: str
    item: Outgoing
    reason: str = ""
    why: str = ""


class _Outlet:
    """A target, its connection and its state."""

    def __init__(self, target: Target, connect: Callable[[str], http.Connection]) -> None:
        self.host = urlsplit(target.url).hostname or "?"
        self.primary = target.primary
        self.breaker = Breaker(60.0 if target.primary else 30.0)
        self._url = target.url
        self.via = target.via
        self._headers = {**_CONTENT, **target.headers}
        if target.primary:
            self._headers["Content-Encoding"] = "gzip"
        self._connect = connect
        self._connection: http.Connection | None = None

    def post(self, body: bytes, patience: float) -> http.Response:
        """Raises Unreachable."""
        if self._connection is None:
            try:
                self._connection = self._connect(self._url)
            except (ValueError, OSError) as exc:  # a bad URL, proxy or CA bundle
                raise http.Unreachable(f"can't connect to {self.host}: {type(exc).__name__}") from exc
        return self._connection.post(compress(body) if self.primary else body, self._headers, patience)

    def abandon(self) -> None:
        """In a forked child."""
        if self._connection is not None:
            self._connection.abandon()


class Delivery:
    """Tries to deliver; used by one thread at a time."""

    def __init__(self, targets: Sequence[Target], connect: Callable[[str], http.Connection]) -> None:
        outlets = [_Outlet(target, connect) for target in targets]
        self._named = {outlet.via: outlet for outlet in outlets if outlet.via}
        outlets = [outlet for outlet in outlets if not outlet.via]
        self._primary = next((outlet for outlet in outlets if outlet.primary), None)
        self._others = [outlet for outlet in outlets if outlet is not self._primary]
        self.limits = RateLimits()
        self.breaker = self._primary.breaker if self._primary else Breaker()
        self.trouble = ""  # why the primary could not be reached the last time
        self.posts = 0
        self._last_success = -inf
        self._reported = time.monotonic()

    def attempt(self, item: Outgoing, patience: float) -> Outcome:
        """Encode and post *item*; each network step takes *patience* seconds at most."""
        now = time.monotonic()
        if self._primary is not None and item.categories and self.limits.limited(item.categories[0][0], now):
            return Outcome(LOST, item, "ratelimit_backoff", "rate limited")
        if isinstance(item, Ready):
            ready = item
        else:
            encoded = encode(item)
            if encoded is None:
                return Outcome(NOTHING, item)
            if encoded is _FAILED:
                return Outcome(LOST, item, "internal_sdk_error", "could not be encoded")
            ready = Ready(encoded, item.size)
        first = ready.attempts == 0
        outcome = Outcome(LOST, ready, "network_error", "no target could be reached")
        via = ready.envelope.via
        outlet = self._named.get(via) if via else self._primary
        if outlet is not None:
            outcome = self._post_primary(outlet, ready, now, patience)
        if first and not ready.losses and not via:
            for outlet in self._others:
                if self._post_other(outlet, ready.envelope.body, now, patience) and self._primary is None:
                    outcome = Outcome(DELIVERED, ready)
        return outcome

    def _post_primary(self, outlet: _Outlet, ready: Ready, now: float, patience: float) -> Outcome:
        body = ready.envelope.body
        losses: list[counters.Loss] = []
        if now - self._reported >= _REPORT_WITH_OTHERS_S and not ready.losses and not ready.envelope.via:
            losses = counters.drain()
            if losses:
                body = (body if body.endswith(b"\n") else body + b"\n") + report_item(losses)
        try:
            response = outlet.post(body, patience)
        except http.Unreachable as exc:
            counters.put_back(losses)
            return self._failed(ready, str(exc))
        outcome = self._judge(outlet, ready, response)
        if outcome.kind is not DELIVERED:
            counters.put_back(losses)
        elif losses or ready.losses:
            self._reported = now
        return outcome

    def _judge(self, outlet: _Outlet, ready: Ready, response: http.Response) -> Outcome:
        """Sentry's rules: a 429 is counted by the server, a 413 is a `send_error`, a 5xx may pass."""
        now, status = time.monotonic(), response.status
        self.posts += 1
        self.limits.update(status, response.headers, now)
        if status >= 500:
            return self._failed(ready, f"HTTP {status} from {outlet.host}", answered=True)
        if self.breaker.succeeded():
            guard.debug(f"{outlet.host} can be reached again")
        self._last_success = now
        if status < 300:
            return Outcome(DELIVERED, ready)
        if status == 429:
            return Outcome(REFUSED, ready)
        why = f"HTTP {status} from {outlet.host}"
        if status == 413:
            return Outcome(LOST, ready, "send_error", f"too large ({why})")
        guard.say_once(f"sender:{status}", f"telemetry was refused: {why}")
        return Outcome(LOST, ready, "network_error", why)

    def _failed(self, ready: Ready, why: str, answered: bool = False) -> Outcome:
        """Not delivered, but it may be later; a client report goes back to the counters instead."""
        now = time.monotonic()
        self.trouble = why
        if self.breaker.failures == 0:
            guard.say_once("sender:unreachable", f"telemetry can't be delivered for now: {why}")
        self.breaker.failed(now)
        ready.attempts += 1
        ready.first_failed = ready.first_failed or now
        poison = answered and ready.attempts >= _ATTEMPTS and self._last_success > ready.first_failed
        return Outcome(LOST if poison or ready.losses else RETRY, ready, "network_error", why)

    def _post_other(self, outlet: _Outlet, body: bytes, now: float, patience: float) -> bool:
        if now < outlet.breaker.next_try():
            return False
        try:
            status = outlet.post(body, patience).status
            why = "" if status < 300 else f"HTTP {status} from {outlet.host}"
        except http.Unreachable as exc:
            why = str(exc)
        if not why:
            outlet.breaker.succeeded()
            return True
        if outlet.breaker.failures == 0:
            guard.say_once(f"sender:{outlet.host}", f"the second target gets no telemetry for now: {why}")
        outlet.breaker.failed(time.monotonic())
        return False

    def report(self, interval: float) -> Ready | None:
        """A client report as its own envelope, when there is something and the last is *interval* s ago."""
        now = time.monotonic()
        if self._primary is None or now - self._reported < interval or self.limits.limited("", now):
            return None
        losses = counters.drain()
        return Ready(Envelope(b"{}\n" + report_item(losses), ()), losses=losses) if losses else None

    def abandon(self) -> None:
        """In a forked child: let go of the parent's connections."""
        for outlet in [*self._others, *self._named.values(), *([self._primary] if self._primary else [])]:
            outlet.abandon()


_FAILED = Envelope(b"", ())


def encode(item: Outgoing) -> Envelope | None:
    """`Outgoing.encode`, guarded; `_FAILED` when it raised."""
    envelope: Envelope | None = _FAILED
    with guard.block("sender.encode"):
        envelope = item.encode()
    return envelope


def compress(body: bytes) -> bytes:
    """gzip at level 1, with less memory to clear for small bodies ([ran] 2 KB: 40 us, not 64)."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31, 5 if len(body) < 8192 else 8)
    return packer.compress(body) + packer.flush()


def report_item(losses: Iterable[counters.Loss]) -> bytes:
    """Sentry's ``client_report`` item."""
    events = [{"reason": reason, "category": category, "quantity": n} for reason, category, n in losses]
    payload = json.dumps({"timestamp": time.time(), "discarded_events": events}).encode()
    return b'{"type":"client_report","length":%d}\n%b\n' % (len(payload), payload)
