"""The command ``otel-sentry``. Import-light: each subcommand loads what it needs when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from otel_sentry._version import __version__


class _Parser(argparse.ArgumentParser):
    """argparse, with errors of one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status. 2 is a mistake in the arguments or the set-up, told in one line."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as exc:  # argparse's way to end, also after --help and --version
        return exc.code if isinstance(exc.code, int) else 2
    try:
        if arguments.command == "demo":
            from otel_sentry.cli import demo

            return demo.run(port=arguments.port, keep=arguments.keep)
        if arguments.command == "collector-config":
            from otel_sentry.cli import collector

            return collector.run(arguments.backends, arguments.role)
        if arguments.command == "catalogue":
            from otel_sentry.cli import catalogue

            return catalogue.run(arguments)
        if arguments.command == "report":
            from otel_sentry.cli import report

            return report.run(arguments.days, arguments.store)
        if arguments.command == "doctor":
            from otel_sentry.cli import doctor

            return doctor.run(send=arguments.send)
        from otel_sentry.cli import config

        return config.run(arguments.format)
    except BrokenPipeError:  # `otel-sentry config | head`
        sys.stderr.close()  # or the interpreter complains about the pipe at exit
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="otel-sentry", description="An OpenTelemetry distro with a Sentry exporter.")
    parser.add_argument("--version", action="version", version=f"otel-sentry {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="run a small Django + Celery app with real servers, and show its traces and issues here",
        description="Runs a small Django + Celery app with a real Postgres and Valkey under "
        "opentelemetry-instrument, sends it some traffic, and shows each trace and each issue. "
        "With SENTRY_DSN or SENTRY_SPOTLIGHT=1 set it sends there instead.",
    )
    how = demo.add_mutually_exclusive_group()
    how.add_argument("--once", action="store_true", help="run the traffic once and exit (the default)")
    how.add_argument("--keep", action="store_true", help="go on serving after the traffic, until Ctrl-C")
    demo.add_argument("--port", type=_port, default=0, help="the app's port (default: a free one)")
    doctor = commands.add_parser("doctor", help="check the set-up, and with --send whether an error arrives")
    doctor.add_argument("--send", action="store_true", help="send a test error and say whether it was accepted")
    config = commands.add_parser("config", help="show every setting, its value, and where the value comes from")
    config.add_argument("--format", choices=("text", "markdown", "json"), default="text")
    collector = commands.add_parser(
        "collector-config", help="print an OpenTelemetry Collector's configuration for the backends that you have"
    )
    collector.add_argument("--backends", default="", metavar="NAMES", help="e.g. sentry,datadog")
    collector.add_argument("--role", default="single", help="single (default), or agent or gateway, joined by Kafka")
    _add_catalogue(commands)
    report = commands.add_parser("report", help="slow operations, incidents, features and thresholds of the last days")
    report.add_argument("--days", type=int, choices=range(1, 41), default=7, metavar="1-40", help="default: 7")
    report.add_argument("--store", metavar="URL", help="default: OTEL_SENTRY_STORE")
    return parser


def _add_catalogue(commands: argparse._SubParsersAction[_Parser]) -> None:
    catalogue = commands.add_parser("catalogue", help="alerts and dashboards: as files, or put into Sentry")
    catalogue.add_argument("backend", metavar="WHAT", help="sentry, or a file of collector-config/generated/")
    catalogue.add_argument("--apply", action="store_true", help="create or update them in Sentry (default: print them)")
    catalogue.add_argument("--url", default="https://sentry.io", help="of Sentry itself (default: https://sentry.io)")
    catalogue.add_argument("--org", metavar="SLUG")
    catalogue.add_argument("--project", metavar="SLUG")
    catalogue.add_argument("--environment", metavar="NAME", help="watch this one only")
    catalogue.add_argument(
        "--token-env", default="SENTRY_AUTH_TOKEN", metavar="NAME",
        help="the variable that holds a token with alerts:write and org:write (default: SENTRY_AUTH_TOKEN)",
    )  # fmt: skip


def _port(text: str) -> int:
    if not text.isdigit() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: expected a number from 0 to 65535")
    return int(text)
