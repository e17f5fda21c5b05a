"""The catalogue agrees with the code, and what is made from it is what the backends take."""

from __future__ import annotations

import ast
import json
import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

import otel_sentry
from otel_sentry.business import render
from otel_sentry.business.catalogue import ALERTS, DISTRIBUTION, METRICS, PANELS, THRESHOLDS, queries
from otel_sentry.business.render import datadog, promql, sentry
from otel_sentry.cli import main
from otel_sentry.settings import load
from scripts.catalogue import FOLDER
from tests.support.sentry_api import SCHEMAS, TOKEN, SentryApi, faults

pytestmark = pytest.mark.once

ROOT = pathlib.Path(otel_sentry.__file__).parent
#: Emitted by `funnels` under names put together there.
_FAMILIES = {"funnel.step", "feature.used", "rollout.exposure"} | {
    f"{family}.{part}" for family in ("funnel", "feature", "rollout") for part in ("users", "value")
}
#: Emitted elsewhere, or later.
_ELSEWHERE = {"app.errors", "auth.login", "security.incident"}


def _emitted() -> dict[str, set[str]]:
    """Metric -> labels, as the calls of `metrics.count` and the like in the code name them."""
    found: dict[str, set[str]] = {}
    for path in [*ROOT.rglob("*.py"), *(ROOT.parent / "instrumentation").rglob("*.py")]:
        tree = ast.parse(path.read_text())
        names = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            function = ast.unparse(node.func)
            if function in ("metrics.count", "metrics.distribution", "metrics.gauge"):
                first, labels = node.args[0], {one.arg for one in node.keywords if one.arg}
            elif function in ("_in", "_measured", "metrics.later"):  # `roots`, `funnels`
                texts = [one for one in node.args if isinstance(one, ast.Constant) and "." in str(one.value)]
                first, labels = (texts or [None])[0], set()
            else:
                continue
            name = first.value if isinstance(first, ast.Constant) else names.get(getattr(first, "id", ""))
            if isinstance(name, str):
                found.setdefault(name, set()).update(labels - {"unit", "value"})
    return found


def test_every_metric_is_in_the_catalogue() -> None:
    """What the code emits is in the catalogue, with its labels, and what is in the catalogue is emitted."""
    emitted = _emitted()
    unknown = {name: labels for name, labels in emitted.items() if name not in METRICS}
    assert unknown == {}
    for name, labels in emitted.items():
        assert labels <= set(METRICS[name].labels), name
    assert set(METRICS) - set(emitted) - _FAMILIES - _ELSEWHERE == set()


def test_every_query_names_what_exists() -> None:
    """Each query is of a metric of the catalogue, of a kind that fits, and groups and filters by its labels."""
    for query in queries():
        metric = METRICS[query.metric]
        assert {*query.by, *(one.label for one in query.where)} <= set(metric.labels), query
        assert query.how == "count" if metric.kind == "counter" else query.how != "count" or metric.kind == DISTRIBUTION
    series = {name for metric in METRICS.values() for name in promql.series(metric)}
    for query in queries():
        named = set(
            re.findall(r"\b[a-z_]+_(?:total|bucket|count|sum|ratio|percent)\b|\bf\w+_users\b", promql.expression(query))
        )
        assert named and named <= series, (named, query)


def test_thresholds_are_the_defaults() -> None:
    """The catalogue's thresholds are the settings' defaults."""
    settings = load({})
    assert {name: getattr(settings, name) for name in THRESHOLDS} == THRESHOLDS


def test_the_alerts_of_the_guide() -> None:
    """business.md 7: nine alerts at their levels."""
    assert [(alert.name, alert.level) for alert in ALERTS] == [
        ("authentication_failures", "critical"),
        ("database_connection", "critical"),
        ("payment_failures", "critical"),
        ("security_breach", "critical"),
        ("slow_responses", "warning"),
        ("error_rate", "warning"),
        ("failed_tasks", "warning"),
        ("suspicious_activity", "warning"),
        ("weekly_review", "info"),
    ]
    assert len(PANELS) == 13


def test_names_as_prometheus_has_them() -> None:
    """Dots become underscores, unit and kind suffixes."""
    names = [
        name
        for metric in ("app.request.duration", "auth.login", "funnel.drop_off", "kpi.value")
        for name in promql.series(METRICS[metric])
    ]
    assert names == [
        "app_request_duration_seconds_bucket", "app_request_duration_seconds_count", "app_request_duration_seconds_sum",
        "auth_login_total", "funnel_drop_off_ratio", "kpi_value",
    ]  # fmt: skip


def test_files_are_up_to_date() -> None:
    """collector-config/generated/ is what the catalogue makes; `make catalogue` writes it."""
    made = render.files()
    assert {path.name for path in FOLDER.iterdir()} == {*made, render.GRAFANA}
    for name, text in made.items():
        assert (FOLDER / name).read_text() == text, f"{name}: run `make catalogue`"


@pytest.mark.parametrize(
    "command",
    [
        ["promtool", "check", "rules", "prometheus-rules.yaml"],
        ["promtool", "test", "rules", "prometheus-rules-test.yaml"],
        ["amtool", "check-config", "alertmanager.yaml"],
    ],
)
def test_prometheus_takes_them(command: list[str]) -> None:
    """Prometheus' and Alertmanager's own tools take the files; each rule fires in its case, and not in the other."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_datadog() -> None:
    """Counters and distributions by their names with dots; a rule with two conditions is a composite."""
    monitors = {monitor["name"]: monitor for monitor in datadog.monitors()}
    errors = monitors["otel-sentry: payment_failures"]
    assert errors["query"] == (
        "sum(last_5m):count:business.operation.duration{operation:payment* AND outcome:error}"
        " by {operation}.as_count() > 0"
    )
    assert monitors["otel-sentry: authentication_failures_2"]["type"] == "composite"
    slow = monitors["otel-sentry: slow_responses"]
    assert slow["query"] == "avg(last_5m):p95:app.request.duration{*} by {route} > 2"
    assert len(datadog.dashboard()["widgets"]) == len(PANELS)


def test_grafana() -> None:
    """Each panel has its place and its series; legends name labels."""
    pytest.importorskip("grafana_foundation_sdk")  # Python 3.11+
    board = json.loads(render.files()[render.GRAFANA])
    places = [tuple(panel["gridPos"][key] for key in "xy") for panel in board["panels"]]
    assert len(set(places)) == len(PANELS)
    assert board["panels"][4]["targets"][1]["legendFormat"] == "p95 {{route}}"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[SentryApi]:
    monkeypatch.setenv("SENTRY_AUTH_TOKEN", TOKEN)
    with SentryApi() as one:
        yield one


def _apply(api: SentryApi, *more: str) -> int:
    return main(["catalogue", "sentry", "--apply", "--url", api.url, "--org", "acme", "--project", "shop", *more])


def test_apply(api: SentryApi, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything is created in the recorded shape; alerts know their monitors; a second run updates, by name."""
    assert _apply(api) == 0, capsys.readouterr().err
    assert api.refused == []
    kept = {
        kind: {body.get("name") or body["title"]: key for key, body in all_.items()} for kind, all_ in api.kept.items()
    }
    assert len(kept["detectors"]) == 9 and len(kept["workflows"]) == 2 and len(kept["dashboards"]) == 1
    critical = next(body for body in api.kept["workflows"].values() if body["name"] == "otel-sentry: critical")
    assert len(critical["detectorIds"]) == 5
    api.calls.clear()
    assert _apply(api, "--environment", "staging") == 0
    assert [call for call in api.calls if call.startswith("POST")] == []
    assert {body["dataSources"][0]["environment"] for body in api.kept["detectors"].values()} == {"staging"}
    assert len(api.kept["detectors"]) == 9
    out = capsys.readouterr().out
    assert "created monitor 'otel-sentry: Slow API responses'" in out and "updated dashboard" in out


def test_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    """By default the definitions are printed, in the recorded shape, and nothing is asked of anybody."""
    assert main(["catalogue", "sentry"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == sentry.definitions()
    for body in printed["monitors"]:
        assert faults(body, SCHEMAS["detectors"]) == []
    assert faults(printed["dashboard"], SCHEMAS["dashboards"]) == []


def test_mistakes(api: SentryApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused token, a redirect (the token does not go along), a missing argument: a line each, without the token."""
    monkeypatch.setenv("OTHER", "sntrys_wrong")
    assert _apply(api, "--token-env", "OTHER") == 1
    assert main(["catalogue", "sentry", "--apply", "--url", f"{api.url}/moved", "--org", "a", "--project", "p"]) == 1
    assert main(["catalogue", "sentry", "--apply", "--url", "http://127.0.0.1:9", "--org", "a", "--project", "p"]) == 1
    assert main(["catalogue", "sentry", "--apply"]) == 2
    assert main(["catalogue", "nonsense"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 5 and "401" in said[0] and "--url" in said[1] and "--org" in said[3]
    assert "sntrys_" not in "".join(said)


def test_other_files(capsys: pytest.CaptureFixture[str]) -> None:
    """The other files can be printed, too."""
    assert main(["catalogue", "alertmanager.yaml"]) == 0
    assert capsys.readouterr().out == render.files()["alertmanager.yaml"]


def test_conditions_of_sentry() -> None:
    """A share of few is damped (a monitor has one condition), and requests are asked of spans, in milliseconds."""
    found: dict[str, Any] = {body["name"].removeprefix(sentry.PREFIX): body for body in sentry.monitors()}
    share = found["Authentication system failures (2)"]["dataSources"][0]
    assert share["aggregate"] == (
        "equation|sum_if(`outcome:[failed,error]`,value,auth.login,counter,none)"
        " / (sum(value,auth.login,counter,none) + 10)"
    )
    slow = found["Slow API responses"]
    assert slow["dataSources"][0]["aggregate"] == "p95(span.duration)"
    assert slow["conditionGroup"]["conditions"][0]["comparison"] == 2000
