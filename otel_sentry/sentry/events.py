"""What an error event says beyond its stack trace: trace, transaction, user, request, business context,
breadcrumbs.

`enrich` is our one global event processor of sentry_sdk. It runs when an issue is really made, never before,
and reads everything from the segment record (decisions 6, 7, 8).
"""

from __future__ import annotations

import sys
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import get_current_span

from otel_sentry import guard, runtime
from otel_sentry.privacy import scrub_event
from otel_sentry.sentry import crumbs, grouping, modules, transport
from otel_sentry.trace.segment import Segment, current_segment

if TYPE_CHECKING:
    from otel_sentry.settings import Settings

SPAN_MARK = "__otel_sentry_span__"
EVENT_MARK = "__otel_sentry_event__"
#: Key in an event's hint: the segment that it belongs to, when that is not the current one.
SEGMENT_HINT = "otel_sentry_segment"
#: The same for what an error is counted by (`grouping.labels`).
_LABELS_HINT = "otel_sentry_labels"
#: Fields of a user that leave the process only with `send_default_pii`.
_PII_USER = frozenset({"email", "username", "ip_address", "name"})
_MAX_CHAIN = 20

Ids = tuple[int, int, int | None]

#: The last segments that an exception has escaped from: excepthook and task hooks see it when the root has
#: ended.
_escaped: deque[Segment] = deque(maxlen=4)


def remember(exc: BaseException, segment: Segment, span_id: int, parent_span_id: int | None) -> None:
    """A span of *segment* saw *exc*. The first one is the innermost, and its ids are kept (decision 6).

    The mark is a tuple of numbers: exceptions get pickled (Celery, multiprocessing) together with their
    attributes.
    """
    if segment.seen_exceptions.setdefault(id(exc), (span_id, parent_span_id))[0] == span_id:
        found = getattr(exc, SPAN_MARK, None)
        if not found or found[0] != segment.trace_id:  # of another trace: one exception object raised again
            _mark(exc, SPAN_MARK, (segment.trace_id, span_id, parent_span_id))
    if span_id == segment.span_id and segment not in _escaped:
        _escaped.append(segment)


def _mark(exc: BaseException, name: str, value: Any) -> None:
    try:
        setattr(exc, name, value)
    except (AttributeError, TypeError):  # exceptions with __slots__ or a __setattr__ of their own
        pass


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    """*exc* and what caused it, outermost first."""
    waiting = [exc]
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_CHAIN:
        one = waiting.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__]
        members = getattr(one, "exceptions", None)  # an ExceptionGroup's, as asyncio's TaskGroup raises it
        if isinstance(members, tuple):
            waiting += [member for member in members if isinstance(member, BaseException)]


def seen_by(exc: BaseException | None, segment: Segment | None) -> Ids | None:
    """The ids of the innermost span that saw *exc* or, failing that, an exception that it came from."""
    for one in _chain(exc):
        if segment is not None and id(one) in segment.seen_exceptions:
            span_id, parent = segment.seen_exceptions[id(one)]
            return segment.trace_id, span_id, parent
        found = getattr(one, SPAN_MARK, None)
        if isinstance(found, tuple) and len(found) == 3 and (segment is None or found[0] == segment.trace_id):
            return found
    return None


def captured_as(exc: BaseException, segment: Segment | None) -> str | None:
    """The event id under which *exc* was reported already (within this trace, if there is one)."""
    found = getattr(exc, EVENT_MARK, None)
    if not isinstance(found, tuple) or len(found) != 2:
        return None
    trace_id = segment.trace_id if segment is not None else None
    return str(found[0]) if trace_id is None or found[1] in (None, trace_id) else None


def mark_captured(exc: BaseException, event_id: str) -> None:
    """Remember on the exception that it has been reported."""
    segment = current_segment()
    _mark(exc, EVENT_MARK, (event_id, segment.trace_id if segment else None))


def enrich(event: Any, hint: dict[str, Any] | None) -> Any:
    """Our global event processor: complete *event*, or drop it as a second report of the same exception."""
    if event.get("type") not in (None, "", "error", "default", "event"):
        return event
    current = runtime.get()
    if current is None:
        return event
    exc = exception_of(hint)
    segment = (hint or {}).pop(SEGMENT_HINT, None) or current_segment()
    if exc is not None and captured_as(exc, segment) is not None:
        transport.expect_loss("error")  # a second report of one exception is no loss
        return None
    with guard.block("event enrichment"):
        segment = _complete(event, exc, segment, current.settings)
    with guard.block("error grouping"):
        grouping.apply(event, exc, segment, current.settings)
        if hint is not None:
            hint[_LABELS_HINT] = grouping.labels(event, exc, segment)
    return event


def count(hint: Mapping[str, Any] | None) -> None:
    """The event with this *hint* leaves: one error more, whatever the sampling of traces or errors says."""
    found = (hint or {}).get(_LABELS_HINT)
    if found is not None:
        from otel_sentry.business import metrics

        metrics.count("app.errors", **found)


def exception_of(hint: Mapping[str, Any] | None) -> BaseException | None:
    """The live exception that an event was made of."""
    exc_info = (hint or {}).get("exc_info")
    exc = exc_info[1] if isinstance(exc_info, tuple) and len(exc_info) == 3 else None
    return exc if isinstance(exc, BaseException) else None


def _complete(
    event: dict[str, Any], exc: BaseException | None, segment: Segment | None, settings: Settings
) -> Segment | None:
    """Fill in the blocks; returns the segment that the event is of, which may have ended."""
    if not event.get("release"):
        event.pop("release", None)
    event.setdefault("modules", dict(modules.installed()))
    ids = seen_by(exc, segment)
    if segment is None and ids is not None:
        segment = next((one for one in reversed(_escaped) if one.trace_id == ids[0]), None)
    contexts = event.setdefault("contexts", {})
    contexts.setdefault("runtime", dict(modules.runtime()))
    _trace(contexts, ids, segment)
    if settings.trace_url:
        from otel_sentry.sentry.links import add_trace_link

        add_trace_link(event, settings)
    _business(contexts, exc, segment)
    if segment is not None:
        # First, since a framework looks the user up, too, when it is asked for its request. It may fail
        # alone.
        with guard.block("reading the request"):
            _request(event, contexts, segment, settings.send_default_pii)
    user = _user(event, segment, settings.send_default_pii)
    if segment is None:
        return None
    name, source = segment.name_and_source()
    if name and not event.get("transaction"):
        event["transaction"] = name
        event["transaction_info"] = {"source": source}
    tags = {**segment.tags, **(event.get("tags") or {})}
    if user and user.get("user_type"):
        tags.setdefault("user_type", str(user["user_type"]))
    if tags:
        event["tags"] = tags
        _flags(contexts, tags)
    if segment.extra is not None:
        with guard.block("reading the task"):
            event["extra"] = {**segment.extra(settings.send_default_pii), **(event.get("extra") or {})}
    contexts.setdefault("performance", crumbs.performance(segment))
    _breadcrumbs(event, exc, segment, settings.max_breadcrumbs)
    return segment


def _flags(contexts: dict[str, Any], tags: Mapping[str, str]) -> None:
    """The rollouts at work as Sentry's feature flags, after those that the program's own SDK noted."""
    from otel_sentry.business import rollouts

    found = rollouts.flags(tags)
    if found:
        known = contexts.get("flags") or {}
        contexts["flags"] = {**known, "values": [*(known.get("values") or ()), *found]}


def _trace(contexts: dict[str, Any], ids: Ids | None, segment: Segment | None) -> None:
    """``contexts.trace``; its ``dynamic_sampling_context`` becomes the envelope's header ``trace``."""
    trace = dict(contexts.get("trace") or {})
    if ids is None and segment is not None:
        ids = _live_ids(segment)
    if ids is not None:
        trace["trace_id"] = f"{ids[0]:032x}"
        trace["span_id"] = f"{ids[1]:016x}"
        trace.pop("parent_span_id", None)
        if ids[2]:
            trace["parent_span_id"] = f"{ids[2]:016x}"
    if segment is not None:
        operation = crumbs.operation_of(segment, ids[1] if ids else segment.span_id)
        if operation:
            trace["op"] = operation
        from otel_sentry.trace.dsc import dsc_of

        sampling_context = dsc_of(segment)
        if sampling_context:
            trace["dynamic_sampling_context"] = dict(sampling_context)
    if not trace.get("trace_id"):  # a cleared scope of sentry_sdk 2.44: it has no trace to offer
        trace.update(trace_id=uuid.uuid4().hex, span_id=uuid.uuid4().hex[16:])
    contexts["trace"] = {key: value for key, value in trace.items() if value is not None}


def _live_ids(segment: Segment) -> Ids:
    span = get_current_span()
    span_context = span.get_span_context()
    if span_context.trace_id != segment.trace_id:
        return segment.trace_id, segment.span_id, segment.parent_span_id
    parent = getattr(span, "parent", None)
    return span_context.trace_id, span_context.span_id, parent.span_id if parent else None


def _business(contexts: dict[str, Any], exc: BaseException | None, segment: Segment | None) -> None:
    from otel_sentry import ambient

    found = next((mark for one in _chain(exc) if (mark := ambient.business_of(one))), None)
    if found is None:
        business = ambient.current(segment).business
        found = business.as_context() if business is not None else {}
    journey = ambient.journey.current(segment)
    if journey is not None:
        found = {**found, **journey.as_context()}
    known = contexts.get("business_context") or {}
    if not found and not known:
        return
    block = {**found, **{key: value for key, value in known.items() if value is not None}}
    if block.get("operation") and not block.get("module"):
        block["module"] = grouping.module_of(segment)
    contexts["business_context"] = block


def _user(event: dict[str, Any], segment: Segment | None, pii: bool) -> dict[str, Any] | None:
    """What the program said about the user explicitly wins over what the request knew."""
    from otel_sentry import ambient

    known = ambient.current(segment).user
    if not known:
        return event.get("user")
    fields = {key: value for key, value in known.items() if value is not None and (pii or key not in _PII_USER)}
    user = {**fields, **(event.get("user") or {})}
    if user:
        event["user"] = user
    return user


def _request(event: dict[str, Any], contexts: dict[str, Any], segment: Segment, pii: bool) -> None:
    if segment.request is None:
        return
    request = segment.request()
    if not isinstance(request, Mapping):
        return
    event["request"] = {**request, **(event.get("request") or {})}
    headers = {str(key).lower(): value for key, value in (request.get("headers") or {}).items()}
    details: dict[str, Any] = {
        "method": request.get("method"),
        "path": _path_of(str(request.get("url") or "")),
        "user_agent": headers.get("user-agent"),
    }
    address = (request.get("env") or {}).get("REMOTE_ADDR") if pii else None
    if address:
        details["client_ip"] = address
        event["user"] = {"ip_address": address, **(event.get("user") or {})}
    details = {key: value for key, value in details.items() if value}
    if details:
        contexts.setdefault("request_details", details)


def _path_of(url: str) -> str:
    from urllib.parse import urlsplit

    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _breadcrumbs(event: dict[str, Any], exc: BaseException | None, segment: Segment, limit: int) -> None:
    mine = crumbs.of_segment(segment, limit)
    found = event.get("breadcrumbs")
    values = found.get("values") if isinstance(found, dict) else found
    if values is not None and not isinstance(values, list):
        return  # an AnnotatedValue: somebody else has cut it
    if limit <= 0 or not (mine or values):
        return
    if exc is not None:
        mine.append(crumbs.of_error(exc))
    event["breadcrumbs"] = {"values": crumbs.merge(values or [], mine, limit)}


def delivered(event: dict[str, Any]) -> None:
    """An error event has left: its id goes on the live span and on the segment."""
    segment = current_segment()
    event_id = event.get("event_id")
    if segment is None or not event_id:
        return
    trace = (event.get("contexts") or {}).get("trace") or {}
    try:
        span_id = int(str(trace.get("span_id")), 16)
    except ValueError:
        span_id = segment.span_id
    segment.event_ids.append((span_id, str(event_id)))
    if _is_unhandled(event):
        segment.failed = True
    span = get_current_span()
    if span.is_recording():
        span.set_attribute("sentry.event_id", str(event_id))


def _is_unhandled(event: dict[str, Any]) -> bool:
    found = event.get("exception")
    values = found.get("values") if isinstance(found, dict) else found
    return any(((one or {}).get("mechanism") or {}).get("handled") is False for one in values or ())


#: What scopes and event processors put on a transaction, after it was scrubbed.
_ADDED = ("tags", "contexts", "extra", "user", "request", "breadcrumbs")


def apply_scope(segment: Segment, event: dict[str, Any]) -> dict[str, Any] | None:
    """The application's scope data and event processors on a transaction; None when one of them dropped it.

    Called on the sender's thread by the encoder, which counts the loss. Without sentry_sdk in the process it
    is one look-up.
    """
    if "sentry_sdk.scope" not in sys.modules:
        return event
    import sentry_sdk

    from otel_sentry.sentry import compat

    scopes = [sentry_sdk.get_global_scope(), segment.isolation_scope, segment.current_scope]
    scopes = [one for one in scopes if one is not None]
    data, processors = compat.scope_data(*scopes), compat.user_event_processors(*scopes)
    if not data and not processors:
        return event
    for field, value in data.items():
        event[field] = {**(event.get(field) or {}), **value} if isinstance(value, dict) else value
    for processor in processors:
        changed: dict[str, Any] | None = event
        with guard.block(f"event processor {getattr(processor, '__name__', '?')}"):
            changed = processor(event, {})
        if changed is None:
            return None
        event = changed
    current = runtime.get()
    pii = current is not None and current.settings.send_default_pii
    return {**event, **scrub_event({field: event[field] for field in _ADDED if field in event}, pii=pii)}


def forget() -> None:
    """Forget the segments that exceptions escaped from (tests, and a forked child)."""
    _escaped.clear()
