"""What the launcher adds to a program's start: ours against the stock distro, side by side in one run.

    pip install --no-deps opentelemetry-distro && python benchmarks/startup.py [ROUNDS]

Prints medians of CPU and wall seconds, and the ratio of what is added (decision: at most 0.40). Run it where byte code
is written (PYTHONDONTWRITEBYTECODE unset), as an installed package has it.
"""

from __future__ import annotations

import importlib.metadata
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

LAUNCHER = str(Path(sys.executable).parent / "opentelemetry-instrument")
PROGRAM = [sys.executable, "-c", "pass"]
NONE = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
KINDS: dict[str, tuple[list[str], dict[str, str]]] = {
    "bare": (PROGRAM, {}),
    "ours": ([LAUNCHER, *PROGRAM], {"SENTRY_DSN": "http://key@127.0.0.1:1/1", "SENTRY_ENVIRONMENT": "development"}),
    "stock": (
        [LAUNCHER, *PROGRAM],
        {
            "OTEL_PYTHON_DISTRO": "distro",
            "OTEL_PYTHON_CONFIGURATOR": "configurator",
            # Stock OpenTelemetry would else configure Django with empty settings.
            "DJANGO_SETTINGS_MODULE": "django.conf.global_settings",
            **NONE,
        },
    ),
}


def measure(command: list[str], env: dict[str, str]) -> tuple[float, float]:
    """CPU and wall seconds of one run."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SENTRY_"))}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    quiet = subprocess.DEVNULL
    subprocess.run(command, env={**kept, **env}, stdout=quiet, stderr=quiet, check=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - begin
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> int:
    """Exit 2 where the stock distro is not there to compare with."""
    names = {one.name for one in importlib.metadata.entry_points(group="opentelemetry_distro")}
    if "distro" not in names:
        print("pip install --no-deps opentelemetry-distro first", file=sys.stderr)
        return 2
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    runs: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind, (command, env) in KINDS.items():
            runs[kind].append(measure(command, env))
    cpu, wall = ({kind: statistics.median(run[i] for run in of) for kind, of in runs.items()} for i in (0, 1))
    for kind in KINDS:
        print(f"{kind:6} cpu {cpu[kind]:.3f} s  wall {wall[kind]:.3f} s")
    for label, figures in (("cpu", cpu), ("wall", wall)):
        print(
            f"added {label}: {(figures['ours'] - figures['bare']) / (figures['stock'] - figures['bare']):.2f} of stock"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
