"""An application that calls `sentry_sdk.init` itself (decision 14), the commonest migration, keeps working.

Its hooks, filters and names win; transport, tracing and the integrations that OpenTelemetry replaces are
ours. One line says what was changed. ``OTEL_SENTRY_TAKE_OVER_INIT=0`` leaves the call alone.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from otel_sentry import guard, runtime

if TYPE_CHECKING:
    from otel_sentry.runtime import Runtime

#: Options of sentry_sdk that are settings of ours under the same name.
_SETTINGS = (
    "release", "environment", "server_name", "dist", "sample_rate", "send_default_pii", "max_breadcrumbs",
    "before_send", "before_send_transaction", "before_breadcrumb", "before_send_log", "before_send_metric",
    "ignore_errors", "in_app_include", "in_app_exclude", "traces_sampler", "traces_sample_rate",
    "trace_propagation_targets", "strict_trace_continuation", "org_id", "profiles_sample_rate",
    "auto_session_tracking",
)  # fmt: skip
#: Options that make no sense beside ours: who sends, what traces, what is instrumented.
_REFUSED = frozenset(
    {
        "dsn", "transport", "spotlight", "debug", "integrations", "default_integrations",
        "auto_enabling_integrations", "disabled_integrations", "enable_tracing", "instrumenter",
        "trace_lifecycle", "traces_sample_rate", "traces_sampler", "profiles_sampler",
        "profile_session_sample_rate", "profile_lifecycle", "profiler_mode", "functions_to_trace",
        "propagate_traces", "enable_backpressure_handling", "transport_queue_size", "shutdown_timeout",
        "http_proxy", "https_proxy", "ca_certs", "cert_file", "key_file", "proxy_headers", "socket_options",
        "keep_alive", "send_client_reports", "trace_ignore_status_codes",
        "before_send_span", "ignore_spans", "hub",
    }
)  # fmt: skip
#: Options that sentry_sdk fills in by itself: no wish of the application's.
_FILLED_IN = frozenset({"data_collection", "event_scrubber", "project_root", "server_name", "debug"})

_original: Callable[..., Any] | None = None
_hooked = False


def install_import_hook() -> None:
    """Wrap `sentry_sdk.init` as soon as the application imports sentry_sdk (now, if it has). Idempotent."""
    global _hooked
    if _hooked:
        return
    _hooked = True
    from wrapt import register_post_import_hook

    register_post_import_hook(_on_import, "sentry_sdk")


@guard.call("sentry_sdk import hook")
def _on_import(module: Any) -> None:
    global _original
    if _original is None:
        _original = module.init
        # No functools.wraps: `init` is declared as a class to type checkers and as a lambda's result at run
        # time.
        module.init = init
        api: Any = getattr(module, "api", None)
        if getattr(api, "init", None) is _original:
            api.init = init
    from otel_sentry.sentry import client

    client.ensure()


def uninstall() -> None:
    """Give `sentry_sdk.init` back (tests)."""
    global _original, _hooked
    _hooked = False
    if _original is not None:
        import sentry_sdk

        for module in (sentry_sdk, getattr(sentry_sdk, "api", None)):
            if getattr(module, "init", None) is init:
                setattr(module, "init", _original)
        _original = None


def original_init(module: Any) -> Callable[..., Any]:
    """sentry_sdk's own `init`."""
    return _original or module.init


def init(*args: Any, **kwargs: Any) -> Any:
    """`sentry_sdk.init` as the application sees it."""
    import sentry_sdk

    original = original_init(sentry_sdk)
    dsn = kwargs.get("dsn") or (args[0] if args else None)
    current = runtime.get() or _begin(dsn)
    if current is None or current.sender is None or not current.settings.take_over_init:
        return original(*args, **kwargs)
    given = dict(kwargs)
    if args and args[0] is not None:
        given.setdefault("dsn", args[0])
    from otel_sentry.sentry import client

    merge(current, given)
    with guard.block("sentry_sdk.init"):
        client.initialise(current)
    return _InitGuard(sentry_sdk.get_client())


def _begin(dsn: Any) -> Runtime | None:
    """Nobody has named a DSN before: the application's sets us up."""
    from otel_sentry import settings

    effective = settings.load()
    if dsn and effective.take_over_init and not effective.sdk_disabled:
        from otel_sentry.bootstrap import configure

        configure(dsn=str(dsn))
    return runtime.get()


class _InitGuard:
    """`init` may be used as a context manager in sentry_sdk 2.x."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._client.flush()


def options_given_to(active: Any) -> dict[str, Any]:
    """The application's own options of a client that it made before we were configured."""
    from otel_sentry.sentry import compat

    defaults = compat.known_options() | {"environment": "production"}
    return {
        name: value
        for name, value in active.options.items()
        if name in defaults and value != defaults[name] and name not in _FILLED_IN
    }


def is_left_alone(current: Runtime) -> bool:
    """Is the application's own client, which we were told to leave alone, at work?"""
    if current.settings.take_over_init or "sentry_sdk" not in sys.modules:
        return False
    import sentry_sdk

    active = sentry_sdk.get_client()
    return active.is_active() and not is_ours(active)


def is_ours(client: Any) -> bool:
    """Does this client of sentry_sdk send through us?"""
    return type(getattr(client, "transport", None)).__module__ == "otel_sentry.sentry.transport"


@guard.call("merging sentry_sdk.init")
def merge(current: Runtime, given: Mapping[str, Any]) -> None:
    """Put the application's options into *current*'s settings; one line says what became of the others."""
    from otel_sentry.sentry import client

    said: list[str] = []
    settings = current.settings
    wanted = {
        name: _as_setting(settings, name, given[name])
        for name in _SETTINGS
        if given.get(name) is not None and hasattr(settings, name)
    }
    origins = {**settings.origins, **dict.fromkeys(wanted, "sentry_sdk.init")}
    current.settings = dataclasses.replace(settings, **wanted, origins=origins)
    current.overrides = {**current.overrides, **wanted}  # for a later `configure`
    _sampler(current, wanted, said)
    _dsn(current, given.get("dsn"), said)
    dropped = _integrations(given.get("integrations") or ())
    if dropped:
        said.append(f"integrations {', '.join(dropped)} are OpenTelemetry's")
    client.extra_options.clear()
    client.extra_options.update(
        {name: value for name, value in given.items() if name not in _REFUSED and name not in _SETTINGS}
    )
    transport = given.get("transport")
    if transport is not None:
        said.append("its transport is not used")
    guard.say(
        "took over the application's sentry_sdk.init: its hooks and names count, all of it leaves by us"
        + "".join(f"; {one}" for one in said)
        + " (OTEL_SENTRY_TAKE_OVER_INIT=0 leaves it alone)"
    )


def _as_setting(settings: Any, name: str, value: Any) -> Any:
    """Sequences become tuples as in the settings; ``ignore_errors`` adds to what is set already."""
    if name == "ignore_errors":
        return (*settings.ignore_errors, *(one for one in value if one not in settings.ignore_errors))
    if name == "trace_propagation_targets":
        return tuple(getattr(one, "pattern", one) for one in value)
    return tuple(value) if isinstance(value, list) else value


def _sampler(current: Runtime, wanted: Mapping[str, Any], said: list[str]) -> None:
    """Rates move to our sampler: sentry_sdk itself traces nothing."""
    moved = [name for name in ("traces_sample_rate", "traces_sampler") if name in wanted]
    if moved:
        current.sampler.update(current.settings)
        said.append(f"{' and '.join(moved)} now decides for OpenTelemetry's traces")


def _dsn(current: Runtime, text: Any, said: list[str]) -> None:
    """The application's DSN wins over the environment's: another sender takes over from here."""
    if not text or str(text) == current.settings.dsn or current.sender is None:
        return
    from otel_sentry.sentry.dsn import Dsn

    try:
        dsn = Dsn.parse(str(text))
    except ValueError as exc:
        said.append(f"its DSN is not used: {exc}")
        return
    from otel_sentry.bootstrap import make_sender

    org_id = dsn.org_id or current.settings.org_id
    current.settings = dataclasses.replace(current.settings, dsn=str(text), org_id=org_id)
    current.overrides = {**current.overrides, "dsn": str(text)}
    former, current.dsn = current.sender, dsn
    current.sender = make_sender(current.settings, dsn)
    former.close()
    said.append(f"its DSN (project {dsn.project_id} at {dsn.host}) replaces SENTRY_DSN")


def _integrations(given: Any) -> list[str]:
    """Keep the integrations that are not replaced; the logging one's levels move to our hook."""
    from otel_sentry.sentry import client, compat, hooks

    dropped = []
    client.extra_integrations.clear()
    for one in given:
        identifier = str(getattr(one, "identifier", ""))
        if identifier == "logging":
            client.breadcrumb_level, hooks.event_level = compat.logging_levels(one)
        elif identifier in compat.REPLACED_INTEGRATIONS:
            dropped.append(identifier)
        else:
            client.extra_integrations.append(one)
    return dropped
