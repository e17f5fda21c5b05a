"""The real servers of the demo, for tests: `postgres()` and `valkey()` as context managers."""

from __future__ import annotations

from otel_sentry.demo.servers import Server, ServerError, free_port, postgres, valkey

__all__ = ["Server", "ServerError", "free_port", "postgres", "valkey"]
