"""What `otel-sentry demo` runs: a small Django project (`studio/`), its servers, and traffic for it.

Loaded by the command only; nothing in the library imports it.
"""

from __future__ import annotations
