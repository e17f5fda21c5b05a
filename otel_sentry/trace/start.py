"""What is known of a local root when it starts: all that a sampling decision can be based on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from opentelemetry.trace import SpanKind

from otel_sentry.trace.segment import Remote

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanContext

_METHOD_KEYS = ("http.request.method", "http.method")
_PATH_KEYS = ("url.path", "http.target", "http.url", "url.full")
_REDIS = ("redis", "valkey")


class SamplingContext(dict[str, Any]):
    """What a `traces_sampler` is called with: the start attributes, and

    ``transaction_context`` (name, op, source), ``parent_sampled``, ``parent_sample_rate``, ``attributes``;
    for samplers written for sentry-python also ``wsgi_environ`` / ``asgi_scope`` (path and method only) and
    ``celery_job`` (task).
    """

    def inherit_or_sample_with(self, rate: float) -> float:
        """The parent's rate, else its decision, else *rate*: for samplers that should not break traces."""
        if self["parent_sample_rate"] is not None:
            return float(self["parent_sample_rate"])
        return rate if self["parent_sampled"] is None else float(self["parent_sampled"])


class Start(NamedTuple):
    """The arguments of `Sampler.should_sample` at a local root."""

    context: Context | None
    parent: SpanContext
    remote: Remote | None
    trace_id: int
    name: str
    kind: SpanKind | None
    attributes: Mapping[str, Any]
    links: Sequence[Link] | None

    @property
    def method(self) -> str:
        """The HTTP method; empty where there is none."""
        return str(_first(self.attributes, _METHOD_KEYS) or "")

    @property
    def path(self) -> str:
        """The URL's path, without the query; empty where there is none."""
        target = _first(self.attributes, _PATH_KEYS)
        if not isinstance(target, str):
            return ""
        try:
            return urlsplit(target).path
        except ValueError:  # "//[" and the like
            return target.partition("?")[0]

    @property
    def user_agent(self) -> Any:
        """The caller's user agent, by either semantic convention; None where there is none."""
        return _first(self.attributes, ("user_agent.original", "http.user_agent"))

    def names(self, style: str) -> set[str]:
        """Whatever a rule may call it: span name, transaction name, path, ``METHOD /path``."""
        from otel_sentry.convention import describe_start  # not at start-up: its tables take 50 ms

        names = {self.name, describe_start(self.name, self.kind, self.attributes, style)[0]}
        path = self.path
        return names | {path, f"{self.method} {path}"} if path else names

    def sampling_context(self, sampled: bool | None, rate: float | None, style: str) -> SamplingContext:
        """For the user's `traces_sampler`; *sampled* and *rate* are the parent's."""
        from otel_sentry.convention import describe_start

        name, op, source = describe_start(self.name, self.kind, self.attributes, style)
        context = SamplingContext(self.attributes)
        context.update(
            transaction_context={"name": name, "op": op, "source": source},
            parent_sampled=sampled,
            parent_sample_rate=rate,
            attributes=self.attributes,
        )
        if self.kind is SpanKind.SERVER:
            context.setdefault("wsgi_environ", {"REQUEST_METHOD": self.method, "PATH_INFO": self.path})
            context.setdefault("asgi_scope", {"type": "http", "method": self.method, "path": self.path})
        elif op == "queue.process":
            context.setdefault("celery_job", {"task": name})
        return context


def is_redis_command(kind: SpanKind | None, attributes: Mapping[str, Any]) -> bool:
    """A client span of Redis or Valkey, by either semantic convention."""
    return kind is SpanKind.CLIENT and (
        attributes.get("db.system.name") in _REDIS or attributes.get("db.system") in _REDIS
    )


def as_rate(value: object) -> float | None:
    """A rate or bool as a float; None when it is neither, or out of range (NaN included)."""
    if not isinstance(value, float | Real | Decimal):
        return None
    number = float(value)
    return number if 0 <= number <= 1 else None


def _first(attributes: Mapping[str, Any], keys: Iterable[str]) -> Any:
    for key in keys:
        value = attributes.get(key)
        if value:
            return value
    return None
