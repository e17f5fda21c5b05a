"""Build the Collector of collector-config/manifest.yaml into .cache/otelcol. Needs Go 1.25+; minutes the first time.

usage: python3 scripts/collector.py

Without `go mod tidy`, which also asks for modules that only the components' own tests need.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
MANIFEST = ROOT / "collector-config" / "manifest.yaml"
BINARY = ROOT / ".cache" / "otelcol"


def main() -> int:
    """Build it unless it is there; 1 with one line when that can't be done."""
    stamp = BINARY.with_suffix(".stamp")
    wanted = hashlib.sha256(MANIFEST.read_bytes()).hexdigest()
    if BINARY.exists() and stamp.exists() and stamp.read_text() == wanted:
        return 0
    if shutil.which("go") is None:
        print("no Go here: the Collector is not built, and its tests are skipped (or set OTELCOL to one)")
        return 0
    BINARY.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="otelcol-") as folder:
        try:
            _build(pathlib.Path(folder))
        except subprocess.CalledProcessError as exc:
            print(f"building the Collector failed: {' '.join(map(str, exc.cmd))}\n{exc.stderr[-2000:]}")
            return 1
    stamp.write_text(wanted)
    print(f"built {BINARY.relative_to(ROOT)} ({BINARY.stat().st_size // 2**20} MB)")
    return 0


def _build(folder: pathlib.Path) -> None:
    text = MANIFEST.read_text()
    found = re.search(r"^ *version: *(\S+)", text, re.MULTILINE)
    assert found, "the manifest names no version"
    modules = re.findall(r"^ *- gomod: *(\S+) (v\S+)$", text, re.MULTILINE)
    source = folder / "src"
    (folder / "builder.yaml").write_text(re.sub(r"(output_path:).*", rf"\1 {source}", text))
    _go(folder, "install", f"go.opentelemetry.io/collector/cmd/builder@v{found[1]}", GOBIN=str(folder))
    _run(folder, str(folder / "builder"), "--skip-compilation", "--skip-get-modules", "--config", "builder.yaml")
    _go(source, "mod", "init", "otelcol")
    # What the generated main() needs; unpinned, go would take the newest.
    modules += [(f"go.opentelemetry.io/collector/{name}", f"v{found[1]}") for name in ("otelcol", "service")]
    _go(source, "mod", "edit", *(f"-require={name}@{version}" for name, version in modules))
    _go(source, "build", "-mod=mod", "-trimpath", "-ldflags=-s -w", "-o", str(BINARY), ".")


def _go(folder: pathlib.Path, *arguments: str, **env: str) -> None:
    _run(folder, "go", *arguments, **env)


def _run(folder: pathlib.Path, *command: str, **env: str) -> None:
    subprocess.run(command, cwd=folder, env={**os.environ, **env}, check=True, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
