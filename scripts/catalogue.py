"""Write collector-config/generated/ from otel_sentry/business/catalogue.py (``make catalogue``)."""

from __future__ import annotations

import pathlib

from otel_sentry.business.render import files

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "collector-config" / "generated"


def main() -> None:
    """Write each file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
