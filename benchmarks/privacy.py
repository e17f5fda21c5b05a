"""What scrubbing costs, beside `json.dumps` of the same data, which every event goes through too.

usage: .venv/bin/python benchmarks/privacy.py [--check]

Prints medians of several rounds of this thread's CPU. "first" is a text that was not seen before, "again" one that is
remembered as clean. With `--check` the exit status is 1 when a ratio is above what docs/scrubbing.md states.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from otel_sentry import privacy
from otel_sentry.privacy import sql, values

ROUNDS = 9
#: Times `json.dumps` of the same data, at most; docs/scrubbing.md states these.
MOST = {"attributes, first": 35.0, "attributes, again": 5.0, "event, first": 30.0, "text of 10 kB": 60.0}

ATTRIBUTES = {
    "http.request.method": "POST", "url.scheme": "https", "url.path": "/posts/17/", "url.query": "page=2&token=abcdef",
    "http.route": "posts/<int:pk>/", "server.address": "shop.example", "server.port": 443, "user.id": "17",
    "http.response.status_code": 200, "network.protocol.version": "1.1", "business.operation": "post_creation",
    "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126",
    "db.system.name": "postgresql", "server.name": "web-7f9c",
    "db.query.text": 'SELECT "post"."id", "post"."title" FROM "post" WHERE "post"."owner_id" = %s ORDER BY 1 LIMIT 21',
}  # fmt: skip


def event(number: int) -> dict[str, Any]:
    """An error with 30 frames, 20 breadcrumbs and a request."""
    frame = {
        "filename": "app/views.py", "function": "pay", "lineno": 3, "context_line": "    total = charge(order, card)",
        "pre_context": ["def pay(request):", "    order = Order.objects.get(pk=7)", "    card = request.POST['card']"],
        "post_context": ["    return total", "", ""],
        "vars": {"order": f"<Order: {number}>", "total": "12.5", "password": "hunter2", "note": f"'see {number}'"},
    }  # fmt: skip
    return {
        "event_id": "a" * 32, "level": "error",
        "exception": {"values": [{
            "type": "ValueError", "value": f"order {number}: no such card", "stacktrace": {"frames": [frame] * 30},
        }]},
        "breadcrumbs": {"values": [
            {"category": "query", "message": ATTRIBUTES["db.query.text"], "data": {"n": number}}] * 20},
        "request": {"url": f"https://shop.example/pay/{number}", "method": "POST", "query_string": "page=2&token=x",
                    "headers": {"Accept": "*/*", "Cookie": "a=b", "User-Agent": ATTRIBUTES["user_agent.original"]}},
        "tags": {"shop": "berlin"}, "user": {"id": "17"},
    }  # fmt: skip


def median_us(call: Callable[[], Any], count: int) -> float:
    """Of the rounds: microseconds of this thread's CPU per call."""
    took = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(count):
            call()
        took.append((time.thread_time() - began) / count * 1e6)
    return statistics.median(took)


def measure() -> dict[str, tuple[float, float]]:
    """Name -> microseconds of scrubbing, and of `json.dumps` of the same."""
    numbers = itertools.count()

    def fresh() -> dict[str, Any]:
        number = next(numbers)
        return {key: f"{value} {number}" if type(value) is str else value for key, value in ATTRIBUTES.items()}

    def forget() -> None:
        values._clean.clear()
        sql._cache.clear()

    making = median_us(fresh, 300)
    making_event = median_us(lambda: event(next(numbers)), 30)
    forget()
    long = " ".join(f"line {number} of a long text, with order {number * 7919} in it" for number in range(220))[:10_000]
    dumped = median_us(lambda: json.dumps(ATTRIBUTES), 300)
    found = {
        "attributes, first": (median_us(lambda: privacy.scrub(fresh()), 300) - making, dumped),
        "attributes, again": (median_us(lambda: privacy.scrub(ATTRIBUTES), 300), dumped),
        "event, first": (
            median_us(lambda: privacy.scrub_event(event(next(numbers))), 20) - making_event,
            median_us(lambda: json.dumps(event(1)), 20) - making_event,
        ),
        "text of 10 kB": (median_us(lambda: privacy.scrub_text(long), 20), median_us(lambda: json.dumps(long), 100)),
    }  # fmt: skip
    forget()
    return found


def main() -> int:
    """Print the table."""
    found = measure()
    print(f"{'':22}{'scrub':>12}{'json.dumps':>14}{'ratio':>8}{'at most':>9}")
    for name, (ours, theirs) in found.items():
        print(f"{name:22}{ours:9.1f} us{theirs:11.1f} us{ours / theirs:8.1f}{MOST[name]:9.0f}")
    first, again = found["attributes, first"][0], found["attributes, again"][0]
    print(f"an attribute: {first / len(ATTRIBUTES) * 1000:.0f} ns first, {again / len(ATTRIBUTES) * 1000:.0f} ns again")
    slower = [name for name, (ours, theirs) in found.items() if ours / theirs > MOST[name]]
    return int("--check" in sys.argv and bool(slower))


if __name__ == "__main__":
    sys.exit(main())
