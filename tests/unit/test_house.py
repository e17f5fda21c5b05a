"""The house rules that a program can check."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

import pytest

import otel_sentry

ROOT = pathlib.Path(otel_sentry.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if "demo" not in path.parts)

PUBLIC = [
    "BusinessSpanProcessor", "JsonFormatter", "SentryPropagator", "SentrySampler", "SentrySpanProcessor",
    "TextFormatter", "TraceContextFilter", "UserSpanProcessor", "__version__", "alert_manager", "business_metrics",
    "capture_custom_exception", "configure", "explain", "flush", "log_business_event", "monitor_performance",
    "set_business_context", "set_user", "shutdown", "span", "tag_business_operation", "trace_meta", "user_journey",
]  # fmt: skip


def test_public_names() -> None:
    """The public surface is this list; each name loads."""
    assert sorted(otel_sentry.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(otel_sentry, name) is not None


def _imports(path: pathlib.Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _uses(path: pathlib.Path, *prefixes: str) -> set[str]:
    return {name for name in _imports(path) if any(name == p or name.startswith(p + ".") for p in prefixes)}


def test_only_one_room_imports_sentry_sdk() -> None:
    """sentry_sdk is imported below otel_sentry/sentry only."""
    offenders = [path for path in MODULES if _uses(path, "sentry_sdk") and "sentry" not in path.relative_to(ROOT).parts]
    assert offenders == []


def test_the_library_knows_no_framework() -> None:
    """otel_sentry, `business` too, imports no framework, driver or HTTP client of the application's (demo aside)."""
    foreign = "django rest_framework celery kombu redis psycopg psycopg2 requests httpx aiohttp".split()
    assert [path for path in MODULES if _uses(path, *foreign)] == []


#: Room -> what no module of it imports. Upwards: whoever puts the parts together, other backends, the commands.
KNOWS_NOT = {
    "ambient": ("sentry", "business", "backends", "bootstrap", "wiring", "cli"),
    "trace": ("business", "backends", "cli"),
    "sentry": ("backends", "cli"),
    "business": ("backends", "bootstrap", "wiring", "cli"),
    "business/render": ("sentry", "trace", "settings", "runtime"),
    "backends": ("business", "bootstrap", "wiring", "cli"),
}


@pytest.mark.parametrize("room", KNOWS_NOT)
def test_imports_go_downwards(room: str) -> None:
    """No room knows those above it, nor those beside it that it must not know."""
    banned = [f"otel_sentry.{name}" for name in KNOWS_NOT[room]]
    found = {path.name: used for path in (ROOT / room).rglob("*.py") if (used := _uses(path, *banned))}
    assert found == {}


def test_every_room_has_a_rule() -> None:
    """A new folder of otel_sentry is named here, or in the rules above."""
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in MODULES} - {"."}
    assert rooms == {*KNOWS_NOT, "convention", "privacy", "cli", "business/sinks"}


@pytest.mark.parametrize("room", ["convention", "privacy"])
def test_tables_and_pure_functions(room: str) -> None:
    """convention/ and privacy/ import neither the OTel SDK nor sentry_sdk at run time, nor upper rooms."""
    for path in (ROOT / room).rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = [ast.Pass()]
        names = {
            name
            for node in ast.walk(tree)
            for name in (
                [node.module or ""] if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            )
        }  # fmt: skip
        bad = {
            n
            for n in names
            if n.startswith(("sentry_sdk", "opentelemetry.sdk", "otel_sentry.sentry", "otel_sentry.trace"))
        }
        assert not bad, f"{path.name}: {bad}"


def test_broad_excepts_live_in_the_guard_only() -> None:
    """No other file has `except Exception` or a bare except, but to pass the exception on."""
    offenders = []
    sources = [*MODULES, *(ROOT.parent / "instrumentation").rglob("*.py")]
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                kinds = ast.unparse(node.type) if node.type else "bare"
                passes_on = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
                if path.name != "guard.py" and kinds in ("bare", "Exception", "BaseException") and not passes_on:
                    offenders.append(f"{path.name}:{node.lineno}")
    assert offenders == []


def test_instrumentations_use_the_seams_only() -> None:
    """instrumentation/* never imports otel_sentry.sentry."""
    for path in (ROOT.parent / "instrumentation").rglob("*.py"):
        assert not _uses(path, "otel_sentry.sentry", "sentry_sdk"), path


@pytest.mark.parametrize("module", ["otel_sentry", "otel_sentry.launch_env", "otel_sentry.trace.propagator"])
def test_import_light(module: str) -> None:
    """Decision 22: these load while OpenTelemetry is itself being imported: no SDK and no sentry_sdk come along."""
    code = (
        f"import {module}, sys; "
        "print([m for m in ('opentelemetry.sdk', 'sentry_sdk', 'opentelemetry.propagate', 'django', "
        "'opentelemetry.instrumentation') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_removed_names_of_sentry_sdk_are_not_used() -> None:
    """Nothing imports what sentry-sdk 3 removed."""
    for path in MODULES:
        tree = ast.parse(path.read_text())
        words = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)} | {
            n.arg for n in ast.walk(tree) if isinstance(n, ast.keyword)
        }
        assert not words & {"Hub", "start_transaction", "instrumenter"}, path
        assert not _uses(path, "sentry_sdk.integrations.opentelemetry"), path
