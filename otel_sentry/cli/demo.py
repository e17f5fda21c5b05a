"""``otel-sentry demo``: start the studio, visit it, and show what arrives at Sentry.

The exit status is 0 only if everything that the steps must make has arrived: the demo is a test, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import urllib.error
from collections.abc import Iterator, Sequence
from typing import Any

from otel_sentry.cli import business, tree
from otel_sentry.cli.receiver import Receiver
from otel_sentry.cli.screen import Screen
from otel_sentry.parse import spotlight
from otel_sentry.sentry.dsn import Dsn

#: Seconds that a step's traces and issues may take to arrive.
ARRIVAL_TIMEOUT_S = 10.0
#: The same once something is missing: nobody should wait ten times for what does not come.
_IMPATIENT_S = 2.0
#: Seconds without news after which a trace of ``--keep`` counts as complete.
_QUIET_S = 1.0

_NEXT = """\
What to do next, in an app of your own:
  pip install 'otel-sentry[django,celery,redis,postgres]'
  export SENTRY_DSN=https://KEY@HOST/PROJECT
  opentelemetry-instrument gunicorn yoursite.wsgi    # likewise: celery -A yoursite worker"""


class _Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP."""


def run(*, port: int = 0, keep: bool = False) -> int:
    """Run the demo; its exit status (2: it can't run here; 128 + n: ended by signal n)."""
    fault = _why_not()
    if fault:
        print(f"otel-sentry demo: {fault}", file=sys.stderr)
        return 2
    from otel_sentry.demo import stack

    screen = Screen()
    try:
        with _signals():
            return _run(screen, port, keep)
    except _Interrupted as exc:
        screen.say(screen.paint("Stopped; no process is left.", "dim"))
        return 128 + int(exc.args[0])
    except stack.DemoError as exc:
        print(f"otel-sentry demo: {exc}", file=sys.stderr)
        return 1


def _why_not() -> str | None:
    """Why the demo can't run here, in one line."""
    if os.name == "nt":
        return "it runs on Linux and macOS; on Windows use WSL"
    from otel_sentry.demo import stack

    missing = stack.missing_packages()
    if missing:
        return f"{', '.join(missing)} not installed; run: pip install 'otel-sentry[demo]'"
    try:
        if os.environ.get("SENTRY_DSN"):
            Dsn.parse(os.environ["SENTRY_DSN"])
        if os.environ.get("SENTRY_SPOTLIGHT"):
            spotlight(os.environ["SENTRY_SPOTLIGHT"])
    except ValueError as exc:
        return f"SENTRY_DSN or SENTRY_SPOTLIGHT: {exc}"
    return None


def _elsewhere() -> dict[str, str]:
    """The caller's own SENTRY_DSN and SENTRY_SPOTLIGHT; empty: the demo shows everything itself."""
    given = {name: os.environ[name] for name in ("SENTRY_DSN", "SENTRY_SPOTLIGHT") if os.environ.get(name)}
    if spotlight(given.get("SENTRY_SPOTLIGHT", "0")) is None:
        given.pop("SENTRY_SPOTLIGHT", None)
    return given


def _run(screen: Screen, port: int, keep: bool) -> int:
    from otel_sentry.demo import stack

    elsewhere = _elsewhere()
    with contextlib.ExitStack() as cleanup:
        receiver = None if elsewhere else cleanup.enter_context(Receiver())
        sentry = elsewhere if receiver is None else {"SENTRY_DSN": receiver.dsn}
        with stack.running(screen, sentry, port) as running:
            visit = _Visit(screen, running, receiver)
            visit.all()
            visit.business()
            if receiver is None:
                with screen.step("waiting for the worker", keep=False):
                    running.finish(visit.tasks)
            if visit.problems:
                visit.complain()
            if keep:
                visit.go_on()
        visit.late()
    if receiver is None:
        screen.say(where_to_look(elsewhere))
    elif not visit.problems:
        kinds = (("trace", visit.traces), ("issue", visit.issues), ("alert", visit.alerts))
        text = ", ".join(f"{number} {kind}{'s' * (number != 1)}" for kind, number in kinds)
        screen.say("\n" + screen.paint(f"All of it arrived: {text}, and the metrics.", "green"))
    screen.say("\n" + _NEXT)
    return 1 if visit.problems else 0


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP unwind the demo once; while it stops its processes, more are ignored."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, _frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise _Interrupted(number)

    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class _Visit:
    """The visitor's steps, one after the other, and what came of them."""

    def __init__(self, screen: Screen, running: Any, receiver: Receiver | None) -> None:
        from otel_sentry.demo.traffic import Visitor

        self.screen = screen
        self.running = running
        self.receiver = receiver
        self.visitor = Visitor(running.url)
        self.problems: list[str] = []
        self.shown = [0, 0]  # transactions and events of the receiver that are on the screen
        self.tasks = 0
        self.traces = 0
        self.issues = 0
        self.alerts = 0

    def all(self) -> None:
        """Take every step."""
        from otel_sentry.demo.traffic import STEPS

        for number, step in enumerate(STEPS, 1):
            if self.receiver is not None:
                self.screen.say()
            self.screen.say(self.screen.paint(f"{number}. {step.title}", "bold"))
            problems = self._take(step)
            self.tasks += sum(".tasks." in name for name in step.roots)
            for problem in problems:
                self.screen.say(self.screen.paint(f"✗ missing: {problem}", "red"))
            self.problems += [f"{step.title}: {problem}" for problem in problems]

    def _take(self, step: Any) -> list[str]:
        from otel_sentry.demo import checks

        problems = []
        with self.screen.step("waiting for its trace", keep=False):
            try:
                status = step.act(self.visitor)
            except (urllib.error.URLError, OSError) as exc:
                return [f"an answer ({exc})"]
            if status != step.status:
                problems.append(f"status {step.status} (the answer is {status})")
            if self.receiver is None:
                return problems
            with contextlib.suppress(TimeoutError):
                patience = _IMPATIENT_S if self.problems else ARRIVAL_TIMEOUT_S
                self.receiver.wait_for(lambda _: checks.complete(step, *self._news()), patience)
        transactions, events = self._news()
        self._show(transactions, events, step.roots, step.times)
        return problems + checks.missing(step, transactions, events)

    def _news(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        assert self.receiver is not None
        return self.receiver.transactions[self.shown[0] :], self.receiver.events[self.shown[1] :]

    def _show(
        self,
        transactions: Sequence[dict[str, Any]],
        events: Sequence[dict[str, Any]],
        roots: Sequence[str] = (),
        times: int = 1,
    ) -> None:
        """Show the traces with one of *roots* (without any: all), the others' names, the issues and the alerts.

        Of the same thing done several *times* the last one is shown.
        """
        others = []
        alike = times - 1
        for trace_id, trace in tree.by_trace(transactions).items():
            if roots and not any(one.get("transaction") in roots for one in trace):
                others.append(" ".join(str(trace[0].get("transaction")).split()))
                continue
            self.traces += 1
            if alike:
                alike -= 1
                continue
            before = f" (and {times - 1} like it before)" if times > 1 else ""
            self.screen.say(self.screen.paint(f"trace {trace_id}{before}", "dim"))
            self.screen.say(tree.trace_tree(trace, events, paint=self.screen.paint))
        if others:
            names = ", ".join(sorted(set(others)))
            self.screen.say(self.screen.paint(f"and {len(others)} other traces: {names[:100]}", "dim"))
        for event in events:
            self._show_event(event)
        self.shown = [self.shown[0] + len(transactions), self.shown[1] + len(events)]

    def _show_event(self, event: dict[str, Any]) -> None:
        if tree.alert_of(event):
            self.alerts += 1
            self.screen.say(tree.alert(event, paint=self.screen.paint))
        else:
            self.issues += 1
            self.screen.say(tree.issue(event, paint=self.screen.paint))

    def business(self) -> None:
        """Show journey, funnel, features and operations, once Sentry has what the steps make of them."""
        from otel_sentry.demo import checks
        from otel_sentry.demo.traffic import BUSINESS

        receiver = self.receiver
        if receiver is None:
            return
        self.screen.say("\n" + self.screen.paint("What came of it for the business", "bold"))

        def missing() -> list[str]:
            items = business.items_of(receiver.items("trace_metric"))
            return checks.missing_business(BUSINESS, receiver.transactions, items)

        with self.screen.step("waiting for the metrics", keep=False), contextlib.suppress(TimeoutError):
            receiver.wait_for(lambda _: not missing(), _IMPATIENT_S if self.problems else ARRIVAL_TIMEOUT_S)
        items = business.items_of(receiver.items("trace_metric"))
        self.screen.say(business.report(receiver.transactions, items, paint=self.screen.paint))
        problems = missing()
        for problem in problems:
            self.screen.say(self.screen.paint(f"✗ missing: {problem}", "red"))
        self.problems += [f"the business: {problem}" for problem in problems]

    def complain(self) -> None:
        """Say what is missing, with the processes' last words."""
        self.screen.say()
        self.screen.say(self.screen.paint(f"Missing or wrong: {len(self.problems)}", "red"))
        self.screen.say("\n".join(f"  {problem}" for problem in self.problems))
        for program in (self.running.web, self.running.worker):
            self.screen.say(f"The end of the {program.name}'s log:\n{program.tail()}")

    def late(self) -> None:
        """An issue that comes after its step, when everything was flushed, is one too many."""
        events = self._news()[1] if self.receiver is not None else []
        for event in events:
            self._show_event(event)
            self.problems.append(f"no more issues at the end, but {tree.exception_of(event)[0]}")

    def go_on(self) -> None:
        """Serve until a signal ends it, and show what else arrives."""
        self.screen.say(
            f"The studio is at {self.running.url}/ (for example {self.running.url}/posts/1/); Ctrl-C ends it."
        )
        while True:
            time.sleep(_QUIET_S / 2)
            if self.receiver is not None:
                self._show_quiet()

    def _show_quiet(self) -> None:
        assert self.receiver is not None
        envelopes = self.receiver.envelopes
        if envelopes and time.time() - envelopes[-1].at >= _QUIET_S:
            self._show(*self._news())


def where_to_look(elsewhere: dict[str, str]) -> str:
    """Where the traces and issues are when the demo did not take them itself."""
    lines = []
    if "SENTRY_DSN" in elsewhere:
        dsn = Dsn.parse(elsewhere["SENTRY_DSN"])
        lines.append(f"Sent to {dsn.host}, project {dsn.project_id}: see its Issues and Traces (development).")
    if "SENTRY_SPOTLIGHT" in elsewhere:
        lines.append("Sent to Spotlight: look at its page, usually http://localhost:8969.")
    return "\n".join(lines)
