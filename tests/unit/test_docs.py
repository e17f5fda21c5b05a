"""The pages tell the truth where a program can check it: links, samples, settings, commands, metrics, panels."""

from __future__ import annotations

import ast
import fnmatch
import importlib
import logging
import pathlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

import otel_sentry
from otel_sentry import runtime, settings
from otel_sentry.business import worker
from otel_sentry.business.catalogue import ALERTS, METRICS, PANELS
from otel_sentry.business.render import promql
from otel_sentry.business.thresholds import PATTERNS
from otel_sentry.cli import _parser
from otel_sentry.trace.sampler import SentrySampler
from otel_sentry.trace.segment import current_segment
from tests.support import docs
from tests.support.client import sentry_sdk_set_up

pytestmark = pytest.mark.once
PAGES = docs.pages()
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")


def _name(page: pathlib.Path) -> str:
    return str(page.relative_to(docs.ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=_name)


# --- Links ---


def _slug(heading: str) -> str:
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _anchors(page: pathlib.Path) -> set[str]:
    return {_slug(found) for found in re.findall(r"(?m)^#+ (.*)$", _FENCE.sub("", page.read_text()))}


@each_page
def test_internal_links_resolve(page: pathlib.Path) -> None:
    """Each link to a file of the project finds it, and each anchor its heading."""
    prose = _FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in _anchors(found), target


def test_the_readme_leads_to_every_page() -> None:
    """No page of docs/ is left without a link in the README."""
    readme = docs.text("README.md")
    assert [name for page in PAGES if (name := _name(page)).startswith("docs/") and f"]({name})" not in readme] == []


# --- Samples ---


class _UploadError(Exception):
    pass


def _fails(*args: object) -> None:
    raise _UploadError("the upload is not a video")


def _stand_ins() -> dict[str, Any]:
    """What the samples leave to the application."""
    user = SimpleNamespace(pk=7, id=7)
    return {
        "request": SimpleNamespace(user=user, FILES={"video": b""}),
        "upload": _fails,
        "UploadError": _UploadError,
        "handler": logging.NullHandler(),
        "logging": logging,
    }


@each_page
def test_samples_run_with_nothing_configured(page: pathlib.Path) -> None:
    """Each Python sample compiles, names what exists, and runs where nothing is set up, unless it is marked."""
    names = _stand_ins()
    for one in docs.samples(page.read_text()):
        code = compile(one.code, _name(page), "exec")
        _imports_exist(one.code)
        if one.runs:
            exec(code, names)
    if _name(page) == "README.md":
        names["create_post"](names["request"])
    assert runtime.get() is None


def _imports_exist(code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "otel_sentry":
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                assert node.module != "otel_sentry" or alias.name in otel_sentry.__all__, alias.name
                assert hasattr(module, alias.name), alias.name


def test_best_practices_of_errors() -> None:
    """What docs/best-practices.md says of errors: operation, kind, user, grouping, levels."""
    page = "docs/best-practices.md"
    with sentry_sdk_set_up() as sentry:
        names: dict[str, Any] = {}
        exec(docs.sample(page, "def register"), names)
        names["register"](SimpleNamespace(save=lambda: int("x")), {"id": "7"})
        exec(docs.sample(page, "provider A is away"), {})
        exec(docs.sample(page, "no thumbnail"), {})
        worker.flush(5)
        registered, away, other, late, alert = sentry.events
    assert registered["contexts"]["business_context"]["operation"] == "user_registration"
    assert registered["tags"]["error_type"] == "validation" and registered["user"]["id"] == "7"
    assert away["fingerprint"] == ["payment-provider-away"]
    assert other["fingerprint"] == ["{{ default }}", "provider-b"]
    assert late["level"] == "warning" and alert["level"] == "fatal"


def test_best_practices_of_performance_and_security() -> None:
    """What docs/best-practices.md says of operations and spans, and of a decision that the program takes."""
    page = "docs/best-practices.md"
    with sentry_sdk_set_up() as sentry:
        names: dict[str, Any] = {}
        for has in ("def capture_payment", "def checkout", "def render_preview", "def export_customers"):
            exec(docs.sample(page, has), names)
        spans = InMemorySpanExporter()
        sentry.provider.add_span_processor(SimpleSpanProcessor(spans))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("opentelemetry.trace._TRACER_PROVIDER", sentry.provider)
            with sentry.tracer.start_as_current_span("GET /", kind=SpanKind.SERVER):
                names["capture_payment"]({})
                names["checkout"]({})
                names["render_preview"]({})
                with pytest.raises(PermissionError):
                    names["export_customers"]({"id": "7"}, False)
                segment = current_segment()
                assert segment is not None and "export_denied" in str(segment.crumbs)
    found = {one.name: dict(one.attributes or {}) for one in spans.get_finished_spans()}
    assert set(found) == {"checkout", "reserve_stock", "render_preview", "resize", "GET /"}
    assert found["reserve_stock"]["business.operation"] == "checkout" and found["resize"]["width"] == 800


def test_the_sampler_of_the_docs() -> None:
    """docs/traces.md: reports always, else what the caller decided, else 5 %."""
    names: dict[str, Any] = {}
    exec(docs.sample("docs/traces.md", "def rates"), names)
    sampler = SentrySampler(traces_sampler=names["rates"])
    for path, rate in (("/reports/7", 1.0), ("/posts/", 0.05)):
        attributes = {"http.request.method": "GET", "url.path": path}
        result = sampler.should_sample(None, 1 << 100, "GET", SpanKind.SERVER, attributes)
        assert result.attributes["sentry.sample_rate"] == rate


def test_the_hook_of_the_docs() -> None:
    """docs/troubleshooting.md: the hook leaves out what it says, and nothing else."""
    names: dict[str, Any] = {}
    exec(docs.sample("docs/troubleshooting.md", "def before_send"), names)
    with sentry_sdk_set_up(before_send=names["before_send"]) as sentry:
        for exc in (ConnectionResetError("gone"), ValueError("bad")):
            otel_sentry.capture_custom_exception(exc)
        assert [event["exception"]["values"][0]["type"] for event in sentry.events] == ["ValueError"]


# --- Settings ---

#: Variables of others that the pages name.
_FOREIGN = {
    "OTEL_EXPORTER_OTLP_*", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_PYTHON_DISTRO",
    "OTEL_PYTHON_CONFIGURATOR", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "OTEL_PYTHON_DJANGO_*", "OTEL_SEMCONV_*",
    "SENTRY_AUTH_TOKEN", "SENTRY_ORG", "SENTRY_PROJECT", "SENTRY_OTLP", "SENTRY_PUBLIC_KEY", "OTEL_SENTRY_OTLP_*",
}  # fmt: skip


@each_page
def test_settings_exist(page: pathlib.Path) -> None:
    """Each variable that a page names is a setting, or a known one of somebody else's."""
    known = {name for row in settings.rows() for name in row.metadata["row"].env}
    for name in re.findall(r"\b(?:OTEL|SENTRY)_[A-Z0-9_]*[A-Z0-9](?:_?\*|_<)?", page.read_text()):
        assert fnmatch.filter(known, name) or any(fnmatch.fnmatch(name, one) for one in _FOREIGN), name


def test_settings_tables_are_made_from_the_code() -> None:
    """`make readme` would change nothing."""
    done = subprocess.run([sys.executable, str(docs.ROOT / "scripts" / "readme.py"), "--check"], check=False)
    assert done.returncode == 0, "run `make readme`"


# --- Commands ---


def _commands(text: str) -> Iterator[str]:
    for block in (found for language, found in _FENCE.findall(text) if language in ("console", "sh", "yaml", "")):
        for line in block.replace("\\\n", " ").splitlines():
            command = re.search(r"(?:^|\s)(otel-sentry [a-z].*)", re.sub(r"\s+[#>].*", "", line))
            if command and "otel-sentry:" not in line:
                yield command[1]
    for code in _INLINE.findall(_FENCE.sub("", text)):
        if code.startswith("otel-sentry ") and not code.startswith("otel-sentry:"):
            yield re.sub(r"[\[\]]", "", code)


@each_page
def test_commands_parse(page: pathlib.Path) -> None:
    """Each `otel-sentry ...` is one that the program takes; a bare command exists."""
    parser = _parser()
    (choices,) = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    for command in _commands(page.read_text()):
        words = shlex.split(command)[1:]
        if len(words) > 1:
            parser.parse_args(words)
        else:
            assert words[0] in choices, command


# --- Metrics, panels, alerts ---

#: First words of metrics that fields of events and spans begin with, too.
_COMMON = {"request", "task", "operation", "query", "external", "security"}
#: What looks like one of our metrics, and is an attribute of a span.
_ATTRIBUTES = {
    "business.operation", "business.module", "journey.id", "journey.name", "performance.n_plus_one",
}  # fmt: skip


@each_page
def test_metrics_exist(page: pathlib.Path) -> None:
    """Each metric or series that a page names is the catalogue's."""
    text = page.read_text()
    families = {name.partition(".")[0] for name in METRICS} - _COMMON
    for name in _INLINE.findall(text):
        family = re.fullmatch(r"([a-z]+)(?:\.(?!py$)[a-z_]+)+", name)
        if family and (family[1] in families or name.endswith((".slow", ".n_plus_one"))):
            assert name in METRICS or name in _ATTRIBUTES, name
    series = {one for metric in METRICS.values() for one in promql.series(metric)}
    for name in re.findall(r"\b[a-z_]+_(?:total|bucket|seconds_count|seconds_sum)\b", text):
        assert name in series, name


def test_running_it_names_every_panel_and_alert() -> None:
    """docs/running-it.md has a place for each panel and alert of the catalogue, by its title, and for no other."""
    named = set(re.findall(r"\*\*([^*]+)\*\*", docs.text("docs/running-it.md")))
    assert named == {panel.title for panel in PANELS} | {alert.title for alert in ALERTS}


def test_every_pattern_is_described() -> None:
    """docs/security.md has a row for each security pattern, with how many events make it."""
    text = docs.text("docs/security.md")
    for name, (count, _) in PATTERNS.items():
        assert re.search(rf"`{name}` \|.*\b{count}\b", text), name
