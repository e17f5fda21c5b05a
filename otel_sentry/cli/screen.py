"""Progress on the terminal: a spinner with seconds where somebody watches, one line per step elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

from otel_sentry.cli.paint import paint_for

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_INTERVAL_S = 0.1
_CLEAR = "\r\x1b[K"


class Screen:
    """Writes to *stream* (standard output)."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._moving = self._stream.isatty()
        self.paint = paint_for(self._stream)
        reconfigure = getattr(self._stream, "reconfigure", None)
        if reconfigure is not None:  # a terminal without UTF-8 gets question marks in place of an exception
            reconfigure(errors="replace")

    def say(self, text: str = "") -> None:
        """Write a line, or several."""
        self._stream.write(text + "\n")
        self._stream.flush()

    @contextlib.contextmanager
    def step(self, label: str, *, keep: bool = True) -> Iterator[None]:
        """Show that *label* is going on. With *keep*, a line with its duration stays when it is done."""
        started = time.monotonic()
        done = threading.Event()
        spinner = threading.Thread(target=self._spin, args=(label, started, done), daemon=True)
        if self._moving:
            spinner.start()
        mark = self.paint("✗", "red")
        try:
            yield
            mark = self.paint("✓", "green")
        finally:
            done.set()
            if self._moving:
                spinner.join()
                self._stream.write(_CLEAR)
            if keep:
                self.say(f"{mark} {label}  {self.paint(f'{time.monotonic() - started:.1f} s', 'dim')}")

    def _spin(self, label: str, started: float, done: threading.Event) -> None:
        turn = 0
        while not done.wait(_INTERVAL_S):
            frame = _FRAMES[turn % len(_FRAMES)]
            self._stream.write(f"{_CLEAR}{frame} {label}  {time.monotonic() - started:.1f} s")
            self._stream.flush()
            turn += 1
