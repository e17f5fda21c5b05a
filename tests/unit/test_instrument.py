"""Loading instrumentors: each when its library is first imported, in any order, none able to break another."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

INSTALLED = sorted(one.name for one in entry_points(group="opentelemetry_instrumentor") if one.name != "django")

CODE = """
import sys
from otel_sentry import guard, instrument
instrument.load_all()
{imports}
print(instrument.status[{name!r}], dict(guard.swallowed))
"""


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("order", ["{library}", "{module}, {library}"])
def test_each_loads_with_its_library(name: str, order: str) -> None:
    """Importing the library loads its instrumentor; also when something imports the instrumentation first."""
    from otel_sentry.instrument import TRIGGERS

    library = TRIGGERS.get(name, name)
    (module,) = {one.module for one in entry_points(group="opentelemetry_instrumentor", name=name)}
    statement = order.format(library=library, module=module)
    code = CODE.format(imports=f"try:\n    import {statement}\nexcept ModuleNotFoundError: print('missing')", name=name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if done.stdout.startswith("missing"):
        pytest.skip(f"{library} is not installed")
    assert done.stdout.split(" ", 1) == ["loaded", "{}\n"], done.stderr
    assert done.stderr == ""


def test_disabled_ones_are_left_out() -> None:
    """OTEL_PYTHON_DISABLED_INSTRUMENTATIONS: names, or `*` for all."""
    code = "from otel_sentry import instrument; instrument.load_all(['redis']); print('redis' in instrument.status)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    code = "from otel_sentry import instrument; instrument.load_all(['*']); print(instrument.status)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{}"
