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
    config = commands.add_parser("config", help="show every setting, its value, and where the value comes from")
    config.add_argument("--format", choices=("text", "markdown", "json"), default="text")
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: expected a number from 0 to 65535")
    return int(text)
