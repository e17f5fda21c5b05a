"""The interpreter, as Sentry's ``contexts.runtime``, and the installed distributions, as its ``modules`` lists them.

These are read off the names of the ``*.dist-info`` folders: sentry_sdk's ModulesIntegration parses every METADATA file,
which takes half a second and more, on the thread that has the first error.
"""

from __future__ import annotations

import functools
import os
import platform
import sys


@functools.lru_cache(maxsize=1)
def installed() -> dict[str, str]:
    """Name -> version, of everything on ``sys.path``; what comes first there wins. Read once."""
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or os.curdir)
        except OSError:  # zip files, folders that are gone
            continue
        for name in names:
            if name.endswith(".dist-info"):
                distribution, _, version = name[: -len(".dist-info")].partition("-")
                if version:
                    found.setdefault(distribution.replace("_", "-").lower(), version)
    return found


@functools.lru_cache(maxsize=1)
def runtime() -> dict[str, str]:
    """Name, version and build of the interpreter; of sentry_sdk it is part of the StdlibIntegration."""
    version = ".".join(map(str, sys.version_info[:3]))
    return {"name": platform.python_implementation(), "version": version, "build": sys.version}
