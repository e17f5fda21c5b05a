"""Imported by the launcher before it starts the program: what is put into the environment here reaches the program.

That makes ours the distro whatever else is installed (`OTEL_PYTHON_DISTRO` unset means "the first one found").
Imports nothing but the standard library.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping, Sequence

_DEFAULTS = {
    "OTEL_PYTHON_DISTRO": "otel_sentry",
    "OTEL_PYTHON_CONFIGURATOR": "otel_sentry",
    # Names of attributes as the stable conventions have them; both give the same in Sentry.
    "OTEL_SEMCONV_STABILITY_OPT_IN": "http,database",
    # contrib's logging instrumentor would put a handler on the root logger.
    "OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION": "false",
}


def set_defaults(env: MutableMapping[str, str]) -> None:
    """Set what the user has not set."""
    for name, value in _DEFAULTS.items():
        env.setdefault(name, value)


def names_gevent(argv: Sequence[str]) -> bool:
    """Does this command line start gunicorn or Celery with gevent? (`-k gevent`, `-P gevent`, `--pool=gevent`, ...)"""
    flags = ("-k", "-P", "--worker-class", "--pool")
    for position, word in enumerate(argv):
        name, _, value = word.partition("=")
        if name in flags and (value or "".join(argv[position + 1 : position + 2])).startswith("gevent"):
            return True
        if word in ("-kgevent", "-Pgevent"):
            return True
    return False


set_defaults(os.environ)
if names_gevent(sys.argv):
    # gevent must patch before anything imports ssl, urllib3 or kombu (decision 15).
    os.environ.setdefault("OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH", "patch_all")
