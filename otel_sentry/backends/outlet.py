"""One exporter of another backend: is it worth trying, what did it deliver, what was lost and why.

The exporters are OpenTelemetry's; they retry within their own time-out (`OTEL_EXPORTER_OTLP_TIMEOUT`). What they log
about each failure becomes one line here, said when a backend goes away.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from otel_sentry import guard
from otel_sentry.privacy import scrub_text

DELIVERED, AGAIN, REFUSED = "delivered", "again", "refused"
#: Seconds that a backend is left alone at most, after repeated failures.
MAX_PAUSE_S = 60.0

#: Trying again won't help: HTTP 4xx but 408 and 429, and gRPC's like; or it can't be written as OTLP.
_FINAL = re.compile(
    r"code: (?:4(?!08|29)\d\d"
    r"|StatusCode\.(?:INVALID_ARGUMENT|UNIMPLEMENTED|UNAUTHENTICATED|PERMISSION_DENIED|NOT_FOUND))"
    r"|Failed to encode|exceeds max_request_size"
)
_RETRYING = re.compile(r", retrying in [\d.]+s\.?")
_WORDS = {"traces": "spans", "logs": "log records", "metrics": "metric points"}

_here = threading.local()
#: All of this process, for the exit line and `doctor`.
outlets: list[Outlet] = []


class Outlet:
    """*exporter* of *signal* ("traces", "logs", "metrics") under the *name* that the user's setting gave it.

    *again* makes it anew in a forked child, whose connections are the parent's: two processes would write into one.
    """

    def __init__(self, name: str, signal: str, exporter: Any, again: Callable[[], Any] | None = None) -> None:
        self.name = name
        self.signal = signal
        self.exporter = exporter
        self._again = again
        self._parents: list[Any] = []  # not let go: that might close or wait for what is the parent's
        self._pid = os.getpid()
        self.reset()
        for kind in type(exporter).__mro__:
            if kind.__module__.startswith("opentelemetry.exporter."):
                logger = logging.getLogger(kind.__module__)
                if _listener not in logger.filters:
                    logger.addFilter(_listener)
        outlets.append(self)

    def reset(self) -> None:
        """Nothing sent, nothing lost."""
        self.delivered = 0
        self.lost: Counter[str] = Counter()
        self.trouble = ""
        self.failures = 0  # in a row
        self._next_try = 0.0

    @property
    def paused_s(self) -> float:
        """Seconds until the backend is worth trying again; 0: now."""
        return max(0.0, self._next_try - time.monotonic()) if self.failures else 0.0

    def lose(self, reason: str, quantity: int = 1) -> None:
        """Count what the backend will not get: `queue_full`, `refused`, `unreachable`, `exit`, `fault`."""
        if quantity > 0:
            self.lost[reason] += quantity

    def send(self, batch: Any, quantity: int, **options: Any) -> str:
        """Export on the calling thread. `DELIVERED`; `AGAIN`: it may work later; `REFUSED`: lost, and counted."""
        result = None
        _here.heard = ""
        with guard.block(f"exporter {self.name}"):
            if self._pid != os.getpid():
                self._renew()
            result = self.exporter.export(batch, **options)
        heard, _here.heard = _here.heard, None
        if getattr(result, "name", "") == "SUCCESS":
            self.delivered += quantity
            if self.failures:
                guard.debug(f"{self.name}: {self.signal} are delivered again")
            self.failures, self.trouble = 0, ""
            return DELIVERED
        self._failed(heard)
        if result is None or _FINAL.search(heard):
            self.lose("fault" if result is None else "refused", quantity)
            return REFUSED
        return AGAIN

    def _renew(self) -> None:
        self._pid = os.getpid()
        if self._again is not None:
            self._parents.append(self.exporter)
            self.exporter = self._again()

    def _failed(self, heard: str) -> None:
        self.trouble = scrub_text(heard)[:200] or "no reason given"
        self.failures += 1
        self._next_try = time.monotonic() + min(2.0**self.failures, MAX_PAUSE_S)
        if self.failures == 1:
            guard.say(f"{self.name}: {self.signal} can't be delivered ({self.trouble}); tried again in the background")

    def exit_line(self) -> str:
        """What this backend did not get, in one line; empty when it got all."""
        if not self.lost:
            return ""
        reasons = ", ".join(f"{number} {reason.replace('_', ' ')}" for reason, number in self.lost.most_common())
        trouble = f"; {self.trouble}" if self.trouble else ""
        return f"{self.name}: {sum(self.lost.values())} {_WORDS[self.signal]} not delivered ({reasons}{trouble})"

    def close(self) -> None:
        """Let the exporter go; it aborts what it is retrying."""
        _here.heard = ""
        with guard.block(f"exporter {self.name}"):
            self.exporter.shutdown()
        _here.heard = None


class _Listener(logging.Filter):
    """Takes what an exporter logs while it sends for us: our one line says it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Nothing of ours under way: let it pass."""
        if getattr(_here, "heard", None) is None:
            return True
        line = _RETRYING.sub("", record.getMessage())
        if not (_here.heard and "due to timeout" in line):  # what came before it says more
            _here.heard = line
        return False


_listener = _Listener()


def report() -> list[dict[str, Any]]:
    """For each exporter what it did so far: `backend`, `signal`, `delivered`, `lost` (by reason), `trouble`."""
    return [
        {"backend": one.name, "signal": one.signal, "delivered": one.delivered, "lost": dict(one.lost),
         "trouble": one.trouble}
        for one in outlets
    ]  # fmt: skip


def say_losses(of: Sequence[Outlet] | None = None) -> None:
    """At exit: one line for each exporter that lost something."""
    for one in outlets if of is None else of:
        line = one.exit_line()
        if line:
            guard.say(line)
