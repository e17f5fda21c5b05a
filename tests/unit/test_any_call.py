"""Issue 6, criterion 4: no public call raises, wherever it is called and whatever it is given."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import calls
from otel_sentry.business import worker
from tests.support.client import sentry_sdk_set_up

ROOT = Path(__file__).parents[2]


class Evil:
    """Nothing can be done with it."""

    def _no(self, *args: Any) -> Any:
        raise RuntimeError("evil")

    __str__ = __repr__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __float__ = __int__ = __getitem__ = _no


def _cycle() -> list[Any]:
    found: list[Any] = []
    found.append({"again": found})
    return found


ABSURD: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "object": object,
    "evil": Evil,
    "empty": lambda: "",
    "long": lambda: "x" * 1_000_000,
    "surrogate": lambda: "\ud800\x00\n",
    "bytes": lambda: b"\xff",
    "negative": lambda: -1,
    "huge": lambda: 10**400,
    "nan": lambda: float("nan"),
    "cycle": _cycle,
    "wide": lambda: {number: {"k": "v" * 100} for number in range(10_000)},
    "keys": lambda: {None: 1, ("a",): Evil(), b"x": {"password": 1}},
    "class": lambda: dict,
    "exception": lambda: KeyError(Evil()),
}


@pytest.fixture(params=["nothing configured", "configured"])
def _set_up(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logging.getLogger("otel_sentry.business"), "propagate", False)
    monkeypatch.setenv("OTEL_SENTRY_STORE", "memory")
    if request.param == "nothing configured":
        yield
    else:
        with sentry_sdk_set_up(store="memory") as sentry, sentry.tracer.start_as_current_span("root"):
            yield
    worker.flush(5)


@pytest.mark.allow_swallowed
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("_set_up")
@pytest.mark.parametrize("name", sorted(calls.public()))
def test_absurd_arguments(name: str) -> None:
    """Whatever each public call is given in every place, it returns; as a block and as a decorator too."""
    function = calls.public()[name]
    for make in ABSURD.values():
        args, kwargs = calls.arguments(function, lambda parameter, make=make: make())  # type: ignore[misc]
        made = calls.used(function(*args, **kwargs))
        if name in ("span", "monitor_performance", "tag_business_operation") and hasattr(made, "__enter__"):
            assert made(lambda: 3)() == 3
            made(make())


REENTRANT = """
import faulthandler, os, signal, sys
sys.path.insert(0, {root!r})
faulthandler.dump_traceback_later(20, exit=True)
import otel_sentry
otel_sentry.configure(dsn="http://key@127.0.0.1:1/1", environment="staging", store="memory", instrument=False,
                      shutdown_timeout=0.1, traces_sample_rate=1.0)

class Key(str):  # is asked for its hash while the SDK holds its locks
    def __hash__(self):
        signal.raise_signal(signal.SIGUSR1)
        return str.__hash__(self)
    __eq__ = str.__eq__

def handler(*ignored):
    otel_sentry.log_business_event("interrupted", {{"size": 3}})
    otel_sentry.user_journey.start_journey("registration")
    otel_sentry.user_journey.add_step("step")
    otel_sentry.set_user({{"id": "7"}})
    with otel_sentry.tag_business_operation("checkout"), otel_sentry.monitor_performance("render", threshold_ms=0):
        pass

signal.signal(signal.SIGUSR1, handler)
with otel_sentry.span("job") as span:
    span.set_attribute(Key("one"), 1)
    span.set_attributes({{Key("two"): 2}})
print(span.attributes["one"], span.attributes["two"], len(span.events) > 5)
"""


@pytest.mark.once
def test_a_handler_that_interrupts_the_span_it_describes() -> None:
    """A signal that comes while its thread is inside `span.set_attribute`: the handler's calls do not wait for it."""
    done = subprocess.run(
        [sys.executable, "-c", REENTRANT.format(root=str(ROOT))],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "1 2 True\n"), done.stderr


PROGRAM = """
import atexit, os, signal, sys
sys.path.insert(0, {root!r})
import otel_sentry
from benchmarks import calls
if len(sys.argv) > 1:
    otel_sentry.configure(dsn=sys.argv[1], environment="staging", store="memory", instrument=False, shutdown_timeout=1)

prepared = [calls.sensible(name) for name in calls.public() if name != "shutdown"]
def everything(*ignored):
    for call in prepared:
        call()
    os.write(1, b"called\\n")

signal.signal(signal.SIGUSR1, everything)
with otel_sentry.span("busy"):
    os.kill(os.getpid(), signal.SIGUSR1)
pid = os.fork()
if not pid:
    everything()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
atexit.register(everything)
class Last:
    def __del__(self):
        everything()
last = Last()
otel_sentry.shutdown()
everything()
"""


@pytest.mark.once
@pytest.mark.parametrize("dsn", ["", "http://key@127.0.0.1:1/1"], ids=["nothing configured", "dead host"])
def test_anywhere(dsn: str) -> None:
    """In a signal handler, in a forked child, after `shutdown`, at exit and when the interpreter is taken down."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(root=str(ROOT)), *([dsn] if dsn else [])],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["called"] * 5, done.stderr
    assert "Traceback" not in done.stderr
    # Once the interpreter is taken down nothing can be imported any more: the guard says so, and the call returns.
    faults = [line for line in done.stderr.splitlines() if "ignored a fault" in line]
    assert [line for line in faults if ": ImportError" not in line] == [], done.stderr
