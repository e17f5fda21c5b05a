"""The dynamic sampling context (DSC) and the trace's random number: whose trace it is, at what odds kept.

The head of a trace makes the DSC; everybody else forwards it as it came ("frozen"). It is made late, at the
first outgoing header or envelope, because the transaction's name is not known when the root starts.
Source: Sentry develop docs, "Dynamic Sampling Context" 1.3 and "Trace Propagation" 1.9.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.trace import TraceState

from otel_sentry import settings as settings_module
from otel_sentry.trace.segment import Remote, Segment
from otel_sentry.trace.tracestate import KEY, Decision, format_member, parse_member, unit_float

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from otel_sentry.settings import Settings

_BOOLEANS = {"true": True, "false": False}
_MAX_NAME = 200  # Sentry's limit for a transaction name
_METHODS = "GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|QUERY"
# What instrumentations call a request before its route is known.
_PROVISIONAL = re.compile(rf"(?:HTTP )?(?:{_METHODS})|HTTP|_OTHER")
_THRESHOLD = re.compile(r"[0-9a-f]{1,14}")
_RANDOMNESS = re.compile(r"[0-9a-f]{14}")


# --- Settings ---

_loaded: Settings | None = None


def current_settings() -> Settings:
    """The running set-up's settings; without one (or before it) those of the environment, read once."""
    global _loaded
    module = sys.modules.get("otel_sentry.runtime")
    runtime = module.get() if module else None
    if runtime is not None:
        found: Settings = runtime.settings
        return found
    if _loaded is None:
        _loaded = settings_module.load()
    return _loaded


class Identity(NamedTuple):
    """Whose trace it is. Empty strings where unknown."""

    public_key: str
    org_id: str
    release: str
    environment: str


_identity: tuple[Settings, Identity] | None = None


def identity() -> Identity:
    """This service's part of a head DSC, from the settings."""
    global _identity
    settings = current_settings()
    if _identity is None or _identity[0] is not settings:
        _identity = (settings, _identity_of(settings))
    return _identity[1]


def _identity_of(settings: Settings) -> Identity:
    public_key, org_id = "", settings.org_id or ""
    if settings.dsn:
        from otel_sentry.sentry.dsn import Dsn

        try:
            dsn = Dsn.parse(settings.dsn)
        except ValueError:  # said by the set-up; headers go out without the key
            pass
        else:
            public_key, org_id = dsn.public_key, org_id or dsn.org_id or ""
    return Identity(public_key, org_id, settings.release or "", settings.environment)


# --- The random number ---


class _Generators(threading.local):
    """One generator for each thread: seeding an old one costs half of making a new one."""

    def __init__(self) -> None:
        self.one = Random(0)


_generators = _Generators()


def sample_rand(trace_id: int, low: float = 0.0, high: float = 1.0) -> float:
    """The number in ``[low, high)`` with six digits that every Sentry SDK for Python derives from *trace_id*.

    Vendored from sentry_sdk.tracing_utils, so that services which know nothing but the trace id decide alike.

    Raises:
        ValueError: the interval is empty.

    """
    if not low < high:
        raise ValueError("low must be less than high")
    first, last = int(low * 1_000_000), int(high * 1_000_000)
    if first >= last:
        return first / 1_000_000
    generator = _generators.one
    generator.seed(f"{trace_id:032x}")
    return generator.randrange(first, last) / 1_000_000


def back_fill(trace_id: int, sampled: bool | None, rate: float | None) -> float | None:
    """A random number that agrees with a decision taken at *rate*; None where none can (empty range)."""
    if sampled is None or rate is None:
        return sample_rand(trace_id)
    low, high = (0.0, rate) if sampled else (rate, 1.0)
    return sample_rand(trace_id, low, high) if low < high else None


def probability(ot: str | None) -> tuple[float | None, float | None]:
    """Rate and random number of OpenTelemetry's own tracestate member ``ot=th:...;rv:...``.

    OTel keeps a trace when ``rv >= th`` (56 bits), Sentry when ``rand < rate``: so ``rate = 1 - th`` and
    ``rand = 1 - rv``, cut (not rounded) to six digits and below 1.
    """
    rate = rand = None
    for part in (ot or "")[:256].split(";"):
        key, _, value = part.partition(":")
        if key == "th" and _THRESHOLD.fullmatch(value):
            rate = 1 - int(value.ljust(14, "0"), 16) / 2**56
        elif key == "rv" and _RANDOMNESS.fullmatch(value):
            rand = ((2**56 - 1 - int(value, 16)) * 1_000_000 >> 56) / 1_000_000
    return rate, rand


# --- What came in ---


def continues(theirs: str | None, ours: str | None, strict: bool) -> bool:
    """May a trace of organisation *theirs* be continued? (spec "Strict Trace Continuation")"""
    if theirs and ours:
        return theirs == ours
    return not (strict and (theirs or ours))


def remote_from_sentry(
    trace_id: int,
    span_id: int,
    sampled: bool | None,
    items: Mapping[str, str],
    member: Decision | None = None,
) -> Remote:
    """The `Remote` of a ``sentry-trace``. A DSC that names another trace counts as empty."""
    dsc = dict(items)
    if dsc.get("trace_id", f"{trace_id:032x}").replace("-", "") != f"{trace_id:032x}":
        dsc = {}
    rate = unit_float(dsc.get("sample_rate"), upper_closed=True)
    rand = unit_float(dsc.get("sample_rand"))
    if member is not None:
        rate = rate if rate is not None else member.sample_rate
        rand = rand if rand is not None else member.sample_rand
    if dsc and unit_float(dsc.get("sample_rand")) is None:
        rand = rand if rand is not None else back_fill(trace_id, sampled, rate)
        dsc.pop("sample_rand", None)
        if rand is not None:
            dsc["sample_rand"] = f"{rand:.6f}"
    return Remote(trace_id, span_id, sampled, dsc, True, rate, rand)


def remote_from_w3c(
    span_context: SpanContext, items: Mapping[str, str], *, w3c_parent: str = "defer", strict: bool = False
) -> Remote:
    """The `Remote` of a ``traceparent`` without ``sentry-trace``.

    Two cases (decision 3). A hop that speaks W3C only left our DSC or our tracestate member: the head is
    elsewhere. A bare ``traceparent`` is a foreign service's: we become the head for Sentry, and its flag
    counts only with *w3c_parent* ``decision``. Under *strict* a member that no DSC vouches for is not
    trusted.
    """
    dsc = items if items.get("trace_id") == f"{span_context.trace_id:032x}" else {}
    state = span_context.trace_state
    member = None if strict and not dsc else parse_member(state.get(KEY))
    rate, rand = probability(state.get("ot"))
    if not dsc and member is None:
        sampled = span_context.trace_flags.sampled if w3c_parent == "decision" else None
        return Remote(span_context.trace_id, span_context.span_id, sampled, {}, False, rate, rand)
    sampled = member.sampled if member is not None else _BOOLEANS.get(dsc.get("sampled", ""))
    known = member if member is not None else Decision(None, rate, rand)
    if dsc:
        return remote_from_sentry(span_context.trace_id, span_context.span_id, sampled, dsc, known)
    return Remote(span_context.trace_id, span_context.span_id, sampled, {}, True, known.sample_rate, known.sample_rand)


def incoming(trace_id: int, remote: Remote | None) -> tuple[bool | None, float | None, float]:
    """The parent's decision and rate, and the trace's random number."""
    if remote is None:
        return None, None, sample_rand(trace_id)
    rand = remote.sample_rand
    if rand is None:
        rand = back_fill(trace_id, remote.sampled, remote.sample_rate)
    return remote.sampled, remote.sample_rate, sample_rand(trace_id) if rand is None else rand


# --- What goes out ---


def with_member(state: TraceState, decision: Decision) -> TraceState:
    """*state* with our member in front, in place of an older one; W3C allows 32 members."""
    member = format_member(decision)
    others = [(key, value) for key, value in state.items() if key != KEY] if state else []
    return TraceState([(KEY, member), *others[:31]] if member else others)


def dsc_of(segment: Segment) -> dict[str, str]:
    """The DSC of *segment*, without the ``sentry-`` prefix. Made at the first call, then frozen.

    Empty when the trace came without one: then neither baggage nor a ``trace`` envelope header is written.
    """
    frozen = segment.frozen_dsc
    if frozen is None:
        if segment.remote is not None and segment.remote.frozen:
            frozen = _continued(segment.remote, segment.decision)
        else:
            frozen = head_dsc(segment.trace_id, segment.decision, _transaction(segment))
        if segment.frozen_dsc is None:
            segment.frozen_dsc = frozen
        frozen = segment.frozen_dsc
    return frozen


def dsc_without_segment(trace_id: int, decision: Decision, remote: Remote | None) -> dict[str, str]:
    """The same where there is no segment record (spans that are not recorded, mere pass-through).

    Without a name it is a function of its arguments, so every call gives the same answer.
    """
    if remote is not None and remote.frozen:
        return _continued(remote, decision)
    return head_dsc(trace_id, decision)


def head_dsc(trace_id: int, decision: Decision, transaction: str = "") -> dict[str, str]:
    """The DSC of a trace that begins here."""
    who = identity()
    dsc = {
        "trace_id": f"{trace_id:032x}",
        "public_key": who.public_key,
        "org_id": who.org_id,
        "release": who.release,
        "environment": who.environment,
        "transaction": transaction,
    }
    if decision.sample_rand is not None:
        dsc["sample_rand"] = f"{decision.sample_rand:.6f}"
    if decision.sample_rate is not None:
        dsc["sample_rate"] = _number(decision.sample_rate)
    if decision.sampled is not None:
        dsc["sampled"] = "true" if decision.sampled else "false"
    return {key: value for key, value in dsc.items() if value}


def _continued(remote: Remote, decision: Decision) -> dict[str, str]:
    """As it came, but for ``sample_rate`` when this service decided itself (as sentry-python; JS #15024)."""
    dsc = dict(remote.dsc)
    rate = decision.sample_rate
    if dsc and rate is not None and (remote.sample_rate is None or abs(rate - remote.sample_rate) > 1e-6):
        dsc["sample_rate"] = _number(rate)
    return dsc


def _transaction(segment: Segment) -> str:
    """The name, unless it is raw (source ``url``: too many values) or provisional (it would stay wrong)."""
    name, source = segment.name_and_source()
    return "" if source == "url" or _PROVISIONAL.fullmatch(name) else name[:_MAX_NAME]


def _number(rate: float) -> str:
    return str(float(rate))
