"""What holds the sender back: the server's rate limits, a server that is away, and too much to send."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from email.utils import mktime_tz, parsedate_tz

_DEFAULT_S = 60.0
_LONGEST_S = 24 * 3600.0
_EVERYTHING = ""
#: Limits that sending fewer spans helps against; one on logs or profiles must not lower the trace rate.
_TRACING = (_EVERYTHING, "transaction", "span")
#: Not the module's own generator: a program that seeds it must get the same numbers with us as without.
_jitter = random.Random()


class RateLimits:
    """Sentry's limits by category (develop docs, "Rate Limiting"). Times are monotonic seconds."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def update(self, status: int, headers: Mapping[str, str], now: float) -> None:
        """Take the limits of one response; *headers* have lower-case names."""
        limits = headers.get("x-sentry-rate-limits")
        if limits:
            for limit in limits.split(","):
                self._add(limit, now)
        elif status == 429:
            self._extend(_EVERYTHING, now + _seconds(headers.get("retry-after")))

    def _add(self, limit: str, now: float) -> None:
        """One limit: ``retry_after:categories:scope[:reason[:namespaces]]``, split by ``;``."""
        fields = limit.strip().split(":")
        if len(fields) < 2:
            return
        until = now + _seconds(fields[0])
        for category in fields[1].split(";"):
            self._extend(category.strip(), until)

    def _extend(self, category: str, until: float) -> None:
        self._until[category] = max(until, self._until.get(category, 0.0))

    def limited(self, category: str, now: float) -> bool:
        """May items of *category* not be sent at *now*?"""
        until = self._until
        return bool(until) and (until.get(_EVERYTHING, 0.0) > now or until.get(category, 0.0) > now)

    def tracing_limited(self, now: float) -> bool:
        """Is there a limit on everything, transactions or spans?"""
        return any(self._until.get(category, 0.0) > now for category in _TRACING)


def _seconds(text: str | None) -> float:
    """A ``Retry-After`` (seconds or an HTTP date) as seconds from now; 60 when there is no sense in it."""
    try:
        seconds = float(text or "")
    except ValueError:
        date = parsedate_tz(text or "")
        try:
            seconds = mktime_tz(date) - time.time() if date else _DEFAULT_S
        except (OverflowError, ValueError):
            seconds = _DEFAULT_S
    return min(max(seconds, 0.0), _LONGEST_S) if seconds == seconds else _DEFAULT_S


class Breaker:
    """Backoff after n failures in a row: the next try is the one probe, at random within min(2**n, 60) s."""

    #: A flush does not wait for that moment, but for this long after the last failure (seconds).
    impatient = 0.25

    def __init__(self, longest: float = 60.0) -> None:
        self.failures = 0
        self._failed_at = 0.0
        self._retry_at = 0.0
        self._longest = longest

    def failed(self, now: float) -> None:
        """Count a failure; full jitter, so that the processes of a service don't come back all at once."""
        self.failures += 1
        ceiling = min(2.0 ** min(self.failures, 16), self._longest)
        self._failed_at = now
        self._retry_at = now + max(0.1, _jitter.uniform(0.0, ceiling))

    def succeeded(self) -> bool:
        """Close it; True when it was open."""
        was_open = self.failures > 0
        self.failures = 0
        self._retry_at = 0.0
        return was_open

    def next_try(self, hurry: bool = False) -> float:
        """Monotonic time before which nothing should be sent; it is past when all is well."""
        return min(self._retry_at, self._failed_at + self.impatient) if hurry else self._retry_at


class Backpressure:
    """How often the sample rate should be halved: one more every 10 s of trouble, none when it is over.

    The rule of sentry_sdk's Monitor, without its thread: the state moves when somebody asks.
    """

    interval = 10.0
    most = 10

    def __init__(self) -> None:
        self._factor = 0
        self._next = 0.0

    def factor(self, now: float, healthy: Callable[[], bool]) -> int:
        """The downsample factor at *now* (monotonic seconds): rates are to be divided by ``2**factor``."""
        if now >= self._next:
            self._next = now + self.interval
            self._factor = 0 if healthy() else min(self._factor + 1, self.most)
        return self._factor
