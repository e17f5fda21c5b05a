"""``otel-sentry doctor``: is the set-up of this environment sound? With ``--send``: does an error arrive?"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import otel_sentry
from otel_sentry import counters, instrument, runtime, settings
from otel_sentry.sentry import takeover
from otel_sentry.sentry.dsn import Dsn

#: Library (its module) -> the distribution that instruments it.
_INSTRUMENTED = {
    "django": "opentelemetry-instrumentation-django",
    "celery": "opentelemetry-instrumentation-celery",
    "redis": "opentelemetry-instrumentation-redis",
    "psycopg": "opentelemetry-instrumentation-psycopg",
    "psycopg2": "opentelemetry-instrumentation-psycopg2",
    "requests": "opentelemetry-instrumentation-requests",
    "httpx": "opentelemetry-instrumentation-httpx",
    "aiohttp": "opentelemetry-instrumentation-aiohttp-client",
}
_TIMEOUT = 10.0


class Finding(NamedTuple):
    """One line of the doctor's, and what to do about it. *level*: ok, note, warn, off (nothing is sent), fail."""

    level: str
    text: str
    hint: str = ""


class DoctorTestError(Exception):
    """What `otel-sentry doctor --send` sends."""


def run(send: bool = False, more: Iterable[Finding] = ()) -> int:
    """Print what is found, *more* too (a framework's own). Exit status: 1 if anything fails or is off."""
    found = [*findings(), *more]
    if send:
        found.append(send_test_error())
    for finding in found:
        print(f"{finding.level:<4}  {finding.text}" + (f"\n      {finding.hint}" if finding.hint else ""))
    return int(any(finding.level in ("fail", "off") for finding in found))


def findings(env: Mapping[str, str] | None = None) -> list[Finding]:
    """What can be said without sending anything: settings, DSN, instrumentors, other parties' variables."""
    env = os.environ if env is None else env
    current = runtime.get()
    loaded = current.settings if current is not None else settings.load(env)
    found = [Finding("warn", problem) for problem in loaded.problems]
    found.extend(_dsn(loaded))
    assumed = " (assumed)" if loaded.environment_assumed else ""
    rate = "a traces_sampler" if loaded.traces_sampler else f"{loaded.traces_sample_rate:.4g}"
    found.append(
        Finding(
            "note" if assumed else "ok",
            f"environment {loaded.environment}{assumed}, release {loaded.release or 'none'}, traces at rate {rate}",
            "set SENTRY_ENVIRONMENT" if assumed else "",
        )
    )
    found.extend(_instrumentors(env))
    found.extend(_others(env))
    found.extend(_init())
    found.extend(_losses())
    return found


def _dsn(loaded: settings.Settings) -> Iterator[Finding]:
    if loaded.sdk_disabled:
        yield Finding("off", "OTEL_SDK_DISABLED=true: nothing runs", "unset it")
    if not loaded.dsn:
        hint = "set SENTRY_DSN=https://<key>@<host>/<project>, or an exporter of another backend"
        yield Finding("note" if loaded.spotlight else "off", "no SENTRY_DSN: nothing goes to Sentry", hint)
        return
    try:
        dsn = Dsn.parse(loaded.dsn)
    except ValueError as exc:
        yield Finding("fail", f"the DSN is malformed: {exc}", "copy it from the project's settings, Client Keys")
        return
    yield Finding("ok", f"DSN: project {dsn.project_id} at {dsn.host}")


def _instrumentors(env: Mapping[str, str]) -> Iterator[Finding]:
    off = {name.strip() for name in env.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")}
    for library, distribution in _INSTRUMENTED.items():
        if importlib.util.find_spec(library) is None:
            continue
        name = distribution.removeprefix("opentelemetry-instrumentation-")
        status = instrument.status.get(name)
        if "*" in off or name in off:
            yield Finding("note", f"{library}: OTEL_PYTHON_DISABLED_INSTRUMENTATIONS turns it off")
        elif installed(distribution) is None:
            yield Finding("note", f"{library} is here, but nothing traces it", f"pip install {distribution}")
        elif status not in (None, "waiting", "loading", "loaded"):
            yield Finding("fail", f"{library} is not instrumented: {status}")
        else:
            yield Finding("ok", f"{library} {installed(library) or ''}".rstrip() + " is instrumented")


def _others(env: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that would put somebody else in our place."""
    distro, configurator = env.get("OTEL_PYTHON_DISTRO"), env.get("OTEL_PYTHON_CONFIGURATOR")
    for name, value in (("OTEL_PYTHON_DISTRO", distro), ("OTEL_PYTHON_CONFIGURATOR", configurator)):
        if value and value != "otel_sentry":
            yield Finding("fail", f"{name}={value}: the launcher starts that one instead of otel-sentry", "unset it")
    propagators = env.get("OTEL_PROPAGATORS")
    if propagators and "otel_sentry" not in propagators:
        hint = "append ,otel_sentry; the name `sentry` is sentry-sdk's own propagator"
        yield Finding("warn", f"OTEL_PROPAGATORS={propagators}: no trace headers for Sentry's SDKs", hint)


def _init() -> Iterator[Finding]:
    """An application that calls `sentry_sdk.init` itself."""
    current = runtime.get()
    if current is None:
        return
    if "sentry_sdk.init" in current.settings.origins.values():
        yield Finding("ok", "the application's sentry_sdk.init is taken over: its options count, all leaves by us")
    elif takeover.is_left_alone(current):
        hint = "take the call out, or unset OTEL_SENTRY_TAKE_OVER_INIT"
        yield Finding("warn", "the application's own sentry_sdk.init sends errors beside us", hint)


def _losses() -> Iterator[Finding]:
    for (reason, category), quantity in counters.snapshot().items():
        if quantity > 0:
            yield Finding("warn", f"{quantity} {category} lost in this process: {reason}")


def send_test_error() -> Finding:
    """Send an error through the whole set-up, and wait until Sentry has answered."""
    if runtime.get() is None:
        otel_sentry.configure(instrument=False)
    current = runtime.get()
    if current is None or current.sender is None:
        return Finding("fail", "nothing can be sent: no DSN")
    before = current.sender.stats.delivered.get("error", 0)
    try:
        raise DoctorTestError("otel-sentry doctor --send: the set-up works")
    except DoctorTestError as exc:
        event_id = otel_sentry.capture_custom_exception(exc, tags={"doctor": "send"}, level="info")
    if event_id is None:
        return Finding(
            "fail", "the test error was not sent", "SENTRY_SAMPLE_RATE, ignore_errors or before_send keep it"
        )
    otel_sentry.flush(_TIMEOUT)
    if current.sender.stats.delivered.get("error", 0) > before:
        return Finding("ok", f"test error accepted by {current.dsn.host if current.dsn else 'Spotlight'}: {event_id}")
    refused = current.sender.stats.refused.get("error", 0)
    hint = "rate limited or over quota (429)" if refused else "see the lines above; is the host reachable from here?"
    return Finding("fail", f"test error {event_id} was not accepted", hint)


def installed(distribution: str) -> str | None:
    """The version of a distribution; None where it is not there."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
