"""Write the settings table, made from the code, into README.md; with --check only compare."""

from __future__ import annotations

import pathlib
import re
import sys

from otel_sentry import settings
from otel_sentry.cli.config import table

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"
_BETWEEN = re.compile(r"(<!-- settings:[^>]*-->\n).*?(<!-- /settings -->)", re.DOTALL)


def rendered(text: str) -> str:
    """*text* with the table as it should be."""
    return _BETWEEN.sub(lambda found: f"{found[1]}{table(settings.load({}), 'markdown')}\n{found[2]}", text)


def main() -> int:
    """Exit 1 with --check when the table in the README is not the code's."""
    text = README.read_text()
    wanted = rendered(text)
    if "--check" in sys.argv:
        return int(text != wanted)
    README.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
