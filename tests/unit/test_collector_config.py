"""The Collector's configurations: the files are what the command prints, and mistakes are told in one line."""

from __future__ import annotations

import pathlib
import re

import pytest

from otel_sentry.cli import collector, main
from otel_sentry.trace import CARRIER_ATTRIBUTES

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "collector-config"


@pytest.mark.parametrize("name", collector.FILES)
def test_the_files_are_up_to_date(name: str) -> None:
    """Each file of collector-config/ is what `otel-sentry collector-config` prints (make collector-config)."""
    assert (FOLDER / name).read_text() == collector.render(*collector.FILES[name])


@pytest.mark.parametrize("name", collector.FILES)
def test_the_head_names_the_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The first line of each file names the command that prints it."""
    text = (FOLDER / name).read_text()
    command = text.splitlines()[0].partition("Made by: otel-sentry ")[2]
    assert main(command.split()) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--backends", "sentry,nagios"], "unknown backend 'nagios'"),
        ([], "no backend"),
        (["--role", "boss"], "unknown role 'boss'"),
        (["--role", "agent", "--backends", "sentry"], "an agent writes to Kafka only"),
    ],
)
def test_mistakes(arguments: list[str], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake is one line that says what there is to choose from, and status 2."""
    assert main(["collector-config", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert what in said.err
    assert said.err.count("\n") == 1


def test_every_backend_alone_and_together() -> None:
    """Any choice of backends gives a file in which all that a pipeline names is defined."""
    for names in [*([name] for name in collector.BACKENDS), list(collector.BACKENDS)]:
        text = collector.render(names)
        for used in re.findall(r"(?:receivers|processors|exporters): \[(.+)\]", text):
            for one in used.split(", "):
                assert re.search(rf"^  {re.escape(one)}:", text, re.MULTILINE), (names, one)


def test_carriers_are_stripped_by_name() -> None:
    """What is stripped for other backends is exactly `CARRIER_ATTRIBUTES`: the id of the issue stays."""
    text = collector.render(["datadog"])
    (names,) = re.findall(r"\^sentry\\\\\.\(([^)]+)\)", text)
    assert {f"sentry.{name}" for name in names.split("|")} == CARRIER_ATTRIBUTES


def test_no_batch_processor_and_endless_retry() -> None:
    """No pipeline has a `batch` processor, which would acknowledge what it only holds in memory; retries never end."""
    for name in collector.FILES:
        text = (FOLDER / name).read_text()
        assert "batch/" not in text and "\n  batch:" not in text
        assert text.count("retry_on_failure") == text.count("max_elapsed_time: 0") - text.count("error_backoff")
