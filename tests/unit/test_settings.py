"""The settings table: precedence, presets, environment and release rules, bad values."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from otel_sentry.detect import git_commit
from otel_sentry.settings import PRESETS, Settings, load, preset_of, rows


def test_dsn_alone_is_a_set_up() -> None:
    """Every setting has a usable default beside SENTRY_DSN."""
    settings = load({"SENTRY_DSN": "https://key@o12.ingest.sentry.io/3"})
    assert settings.dsn and settings.problems == ()
    assert settings.org_id == "12"
    assert settings.traces_exporter == ("otel_sentry",)


@pytest.mark.parametrize(
    ("name", "preset"),
    [("dev", "development"), ("local", "development"), ("TEST", "development"), ("stage", "staging"), ("qa", "staging"),
     ("prod", "production"), ("live", "production"), ("staging", "staging"), ("eu-west", None)],
)  # fmt: skip
def test_preset_of_environment_names(name: str, preset: str | None) -> None:
    """business.md 2: aliases choose a preset, the value sent stays as written."""
    assert preset_of(name) == preset
    settings = load({"ENVIRONMENT": name})
    assert settings.environment == name
    assert settings.traces_sample_rate == PRESETS[preset or "production"]["traces_sample_rate"]


def test_unknown_environment_takes_productions_rates_and_says_so() -> None:
    """An environment without preset is named in one problem line."""
    (line,) = load({"SENTRY_ENVIRONMENT": "moon"}).problems
    assert "moon" in line and "SENTRY_TRACES_SAMPLE_RATE" in line


def test_environment_order() -> None:
    """SENTRY_ENVIRONMENT beats ENVIRONMENT beats the resource beats what is assumed."""
    resource = "deployment.environment.name=from-resource"
    assert load({"SENTRY_ENVIRONMENT": "a", "ENVIRONMENT": "b"}).environment == "a"
    assert load({"ENVIRONMENT": "b", "OTEL_RESOURCE_ATTRIBUTES": resource}).environment == "b"
    assert load({"OTEL_RESOURCE_ATTRIBUTES": resource}).environment == "from-resource"
    assumed = load({})
    assert (assumed.environment, assumed.environment_assumed) == ("production", True)


def test_runserver_means_development(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing named and `manage.py runserver`: development."""
    monkeypatch.setattr(sys, "argv", ["manage.py", "runserver"])
    assert load({}).environment == "development"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("SENTRY_TRACES_SAMPLE_RATE", "2", "a number from 0.0 to 1.0"),
        ("SENTRY_TRACES_SAMPLE_RATE", "nan", "a number"),
        ("SENTRY_TRACES_SAMPLE_RATE", "lots", "a number"),
        ("SENTRY_SEND_DEFAULT_PII", "maybe", "true or false"),
        ("SENTRY_MAX_BREADCRUMBS", "1.5", "a whole number"),
        ("OTEL_SENTRY_W3C_PARENT", "x", "one of defer, decision"),
        ("OTEL_SENTRY_BEFORE_SEND", "os.path", "package.module:function"),
        ("OTEL_SENTRY_TRACE_PROPAGATION_TARGETS", "(", "regular expressions"),
        ("SENTRY_SPOTLIGHT", "perhaps", "1 or a URL"),
    ],
)
def test_bad_value_is_one_line_and_the_default(variable: str, value: str, expected: str) -> None:
    """A bad value: the line names the variable, the value and what is expected; the default is used."""
    settings = load({variable: value, "ENVIRONMENT": "production"})
    (line,) = settings.problems
    assert line.startswith(f"{variable}={value!r}") and expected in line
    default = load({"ENVIRONMENT": "production"})
    for row in rows():
        assert getattr(settings, row.name) == getattr(default, row.name)


def test_secrets_are_hidden() -> None:
    """No DSN in repr or in a problem line."""
    settings = load({"SENTRY_DSN": "https://secretkey@host/1", "HTTPS_PROXY": "http://u:pw@proxy"})
    assert "secretkey" not in repr(settings) and "pw" not in repr(settings)


def test_argument_beats_environment_and_origin_tells() -> None:
    """configure() > environment > preset."""
    settings = load({"SENTRY_TRACES_SAMPLE_RATE": "0.3", "SENTRY_RELEASE": "r1"}, traces_sample_rate=0.7)
    assert settings.traces_sample_rate == 0.7
    assert settings.origins["traces_sample_rate"] == "configure()"
    assert settings.origins["release"] == "SENTRY_RELEASE"
    assert settings.origins["profiles_sample_rate"] == "preset production"


def test_bad_argument_is_reported_not_raised() -> None:
    """A bad value given in code is a line too; an unknown name is a TypeError with the nearest name."""
    assert "traces_sample_rate" in load({"ENVIRONMENT": "prod"}, traces_sample_rate=7).problems[0]
    with pytest.raises(TypeError, match="did you mean 'traces_sample_rate'"):
        load({}, trace_sample_rate=0.1)


def test_env_hook_is_imported_late() -> None:
    """A hook named in the environment is imported at its first call: such modules import Django models."""
    settings = load({"OTEL_SENTRY_BEFORE_SEND": "json:dumps"})
    assert settings.before_send is not None
    assert settings.before_send({"a": 1}) == '{"a": 1}'


def test_release_order(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SENTRY_RELEASE, service.version, git, CI variable, none."""
    monkeypatch.chdir(tmp_path)
    assert load({"SENTRY_RELEASE": "r", "OTEL_RESOURCE_ATTRIBUTES": "service.version=v"}).release == "r"
    assert load({"OTEL_RESOURCE_ATTRIBUTES": "service.version=v%201"}).release == "v 1"
    assert load({"GITHUB_SHA": "abc"}).release == "abc"
    assert load({}).release is None


def test_git_commit_is_read_without_a_subprocess(tmp_path: pathlib.Path) -> None:
    """The commit of a real repository, from loose and packed refs, also from a subfolder."""
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", str(tmp_path)]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    (tmp_path / "sub").mkdir()
    assert git_commit(tmp_path / "sub") == head
    subprocess.run([*git, "pack-refs", "--all"], check=True)
    assert git_commit(tmp_path) == head


def test_table_is_complete() -> None:
    """Each row has a doc and, unless it is only for code, a variable; no variable means two settings."""
    seen: set[str] = set()
    for row in rows():
        setting = row.metadata["row"]
        assert setting.doc.endswith(".") and setting.env
        assert not seen & set(setting.env)
        seen |= set(setting.env)
    assert isinstance(load({}), Settings)
