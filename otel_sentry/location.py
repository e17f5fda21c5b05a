"""Where in the program's own code something was called from. Costs a walk up the stack: ask when it is worth it."""

from __future__ import annotations

import sys
import sysconfig
from typing import Any

from otel_sentry import runtime

_MAX_FRAMES = 200
_LIBRARY_PARTS = ("/site-packages/", "/dist-packages/")
_STANDARD = tuple(path + "/" for path in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")} if path)
_OURS = ("otel_sentry", "opentelemetry")


def of_caller() -> dict[str, Any]:
    """The innermost frame of the application's own code, as `code.*` attributes; empty where there is none.

    Yours is what is neither installed nor the standard library; `SENTRY_IN_APP_INCLUDE` and `_EXCLUDE` have the last
    word, as on issues.
    """
    current = runtime.get()
    include = current.settings.in_app_include if current is not None else ()
    exclude = current.settings.in_app_exclude if current is not None else ()
    frame = sys._getframe(1)
    for _ in range(_MAX_FRAMES):
        code = frame.f_code
        module = frame.f_globals.get("__name__") or ""
        if _is_in_app(module, code.co_filename, include, exclude):
            name = getattr(code, "co_qualname", code.co_name)  # from Python 3.11 on
            return {
                "code.file.path": code.co_filename,
                "code.line.number": frame.f_lineno,
                "code.function.name": f"{module}.{name}" if module else name,
            }
        if frame.f_back is None:
            break
        frame = frame.f_back
    return {}


def _is_in_app(module: str, path: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> bool:
    top = module.partition(".")[0]
    if top.startswith(_OURS) and not module.startswith("otel_sentry.demo."):
        return False
    if _is_below(module, include):
        return True
    if _is_below(module, exclude) or path.startswith("<frozen"):
        return False
    path = path.replace("\\", "/")
    return not path.startswith(_STANDARD) and not any(part in path for part in _LIBRARY_PARTS)


def _is_below(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
