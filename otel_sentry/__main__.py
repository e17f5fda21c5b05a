"""``python -m otel_sentry``: the same as the command ``otel-sentry``."""

from __future__ import annotations

import sys

from otel_sentry.cli import main

if __name__ == "__main__":
    sys.exit(main())
