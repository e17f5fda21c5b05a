"""The README tells the truth where a program can check it."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import otel_sentry

ROOT = pathlib.Path(otel_sentry.__file__).resolve().parents[1]


def test_settings_table_is_made_from_the_code() -> None:
    """`make readme` would change nothing."""
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "readme.py"), "--check"], check=False)
    assert done.returncode == 0, "run `make readme`"


def test_python_samples_compile_and_name_what_exists() -> None:
    """Each Python sample compiles, and what it imports from otel_sentry is public."""
    samples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert samples
    for sample in samples:
        compile(sample, "README.md", "exec")
        for names in re.findall(r"from otel_sentry import (.*)", sample):
            assert {name.strip() for name in names.split(",")} <= set(otel_sentry.__all__)
