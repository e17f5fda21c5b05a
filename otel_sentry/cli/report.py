"""``otel-sentry report``: what was slow, what happened, what was used, from the sums by day in the store."""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from otel_sentry.business import daily
from otel_sentry.business.catalogue import THRESHOLDS

_ROWS = 10
#: Fewer values than this say nothing about a threshold.
_ENOUGH = 100
_NICE = (1, 1.5, 2, 3, 5, 7.5, 10)


def run(days: int, url: str | None) -> int:
    """Print the report of the last *days* days, today included, from the store at *url*; the exit status."""
    from otel_sentry import settings
    from otel_sentry.business import store

    loaded = settings.load()
    where = url or loaded.store
    if not where or where == "memory":
        sys.stderr.write(
            "otel-sentry report: OTEL_SENTRY_STORE=redis://... says where the sums by day are, here and in your "
            "processes; --store gives it here only\n"
        )
        return 2
    try:
        # Not `store.get()`: there is no application here whose Redis could be meant.
        chosen = importlib.import_module("otel_sentry_redis.store").RedisStore(where)
        text = report(chosen, daily.last_days(days), {name: getattr(loaded, name) for name in THRESHOLDS})
    except (store.Unavailable, OSError, ValueError) as exc:
        sys.stderr.write(f"otel-sentry report: the store can't be read: {type(exc).__name__}\n")
        return 1
    sys.stdout.write(text)
    return 0


def report(store: Any, days: list[str], thresholds: Mapping[str, float] = THRESHOLDS) -> str:
    """The report as text; *thresholds*: those in force."""
    found = {name: daily.load(store, name, days) for name in _READ}
    parts = [f"{days[0]} to {days[-1]} (UTC)\n"]
    for title, lines in (
        ("Slow operations", _slow(found)),
        ("Errors", _counts(found["app.errors"], ("module", "kind"))),
        ("Logins", _counts(found["auth.login"], ("outcome",))),
        ("Security incidents", _counts(found["security.incident"], ("kind",))),
        ("Feature usage", _features(found)),
        ("Funnels", _counts(found["funnel.step"], ("funnel", "step"))),
        ("Journeys", _counts(found["journey.completed"], ("name", "outcome"))),
        ("Suggested thresholds", _suggestions(found, thresholds)),
    ):
        parts.append(f"\n{title}\n" + "".join(f"  {line}\n" for line in lines or ["none"]))
    return "".join(parts)


#: Metric -> what a row of it is, and the setting with its threshold.
_TIMED = {
    "app.request.duration": ("request", "route", "slow_request_ms"),
    "app.task.duration": ("task", "task", "slow_task_ms"),
    "business.operation.duration": ("operation", "operation", "slow_request_ms"),
}
_READ = (
    *_TIMED, "app.errors", "auth.login", "security.incident", "feature.used", "feature.users", "funnel.step",
    "journey.completed",
)  # fmt: skip


def _by(series: dict[str, daily.Entry], labels: Iterable[str]) -> dict[str, daily.Entry]:
    """*series* summed over all labels but these."""
    found: dict[str, daily.Entry] = {}
    for key, entry in series.items():
        known = json.loads(key)
        name = " ".join(str(known.get(label) or "-") for label in labels)
        daily.merge(found.setdefault(name, {}), {"": entry})
    return {name: one[""] for name, one in found.items()}


def _timed(found: dict[str, dict[str, daily.Entry]]) -> list[tuple[str, str, str, daily.Entry]]:
    return [
        (kind, name, setting, entry)
        for metric, (kind, label, setting) in _TIMED.items()
        for name, entry in _by(found[metric], (label,)).items()
    ]


def _slow(found: dict[str, dict[str, daily.Entry]]) -> list[str]:
    rows = [(daily.quantile(entry, 0.95), kind, name, entry) for kind, name, _, entry in _timed(found)]
    rows.sort(key=lambda row: -row[0])
    return [
        f"{kind:10} {name:40} p95 {_time(p95)}  max {_time(entry['max'])}  "
        f"{entry['n']:g} times, {_time(entry['sum'])} in all"
        for p95, kind, name, entry in rows[:_ROWS]
    ]


def _counts(series: dict[str, daily.Entry], labels: tuple[str, ...]) -> list[str]:
    rows = sorted(_by(series, labels).items(), key=lambda row: -row[1].get("n", 0))
    return [f"{entry.get('n', 0):8g}  {name}" for name, entry in rows[:_ROWS]]


def _features(found: dict[str, dict[str, daily.Entry]]) -> list[str]:
    users = _by(found["feature.users"], ("feature",))
    used = [json.loads(key) for key in found["feature.used"]]
    features = {f"{one.get('feature') or '-'} {one.get('usage') or '-'}": one.get("feature") for one in used}
    lines = []
    for line in _counts(found["feature.used"], ("feature", "usage")):
        most = users.get(features.get(line[10:]) or "", {}).get("max")
        lines.append(line + (f"  (up to {most:g} users a day)" if most is not None else ""))
    return lines


def _suggestions(found: dict[str, dict[str, daily.Entry]], thresholds: Mapping[str, float]) -> list[str]:
    """What would be slow for one in a hundred, where that is far from the threshold in force."""
    patterns = []
    for kind, name, setting, entry in _timed(found):
        if entry["n"] < _ENOUGH:
            continue
        now, wanted = thresholds[setting], _nice(daily.quantile(entry, 0.99) * 1000)
        if wanted > now or wanted < now / 4:
            patterns.append((kind, name, now, wanted))
    lines = [
        f"{kind:10} {name:40} {_time(wanted / 1000)} instead of {_time(now / 1000)}"
        for kind, name, now, wanted in patterns
    ]
    if patterns:
        lines.append("OTEL_SENTRY_SLOW_MS=" + ",".join(f"{name}={wanted:g}" for _, name, _, wanted in patterns[:_ROWS]))
    return lines


def _nice(ms: float) -> float:
    """The next round number above."""
    if ms <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(ms))
    return next(step * power for step in _NICE if step * power >= ms)


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
