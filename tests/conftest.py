"""Fixtures that every test may use, and two rules for all: a clean environment, and nothing swallowed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from otel_sentry import counters, guard
from otel_sentry.cli.receiver import Receiver
from tests.support import servers
from tests.support.bugsink import Bugsink, bugsink
from tests.support.datadog_agent import Agent, datadog_agent
from tests.support.tools import or_skip

_ENVIRON = dict(os.environ)
_PREFIXES = ("SENTRY_", "OTEL_")
_NAMES = ("ENVIRONMENT", "DJANGO_SETTINGS_MODULE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches a test; monkeypatch undoes what the test sets itself."""
    for name in list(os.environ):
        if name.startswith(_PREFIXES) or name.upper() in _NAMES:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _nothing_swallowed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test when the guard swallowed something in it: in production that is a silent defect."""
    counters.reset()
    guard.reset()
    yield
    swallowed = dict(guard.swallowed)
    counters.reset()
    guard.reset()
    guard.set_debug(False)
    if swallowed and request.node.get_closest_marker("allow_swallowed") is None:
        pytest.fail(f"otel_sentry.guard swallowed {swallowed}; see its lines on stderr", pytrace=False)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A Sentry on loopback that keeps what it gets."""
    with Receiver() as one:
        yield one


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real Postgres for the whole session; tests make tables or databases of their own in it."""
    with servers.postgres() as server:
        yield server.url


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """A real Valkey for the whole session (`redis://...`); tests use keys or databases of their own."""
    with servers.valkey() as server:
        yield server.url


@pytest.fixture(scope="session")
def bugsink_server() -> Iterator[Bugsink]:
    """A real Sentry-compatible server; skipped where pip can't install it. The first time takes a minute."""
    with or_skip(bugsink(_ENVIRON), "Bugsink") as server:
        yield server


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    """Datadog's own test agent, one for each module; skipped where pip can't install it."""
    with or_skip(datadog_agent(_ENVIRON), "Datadog's test agent") as server:
        yield server
