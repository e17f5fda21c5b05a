"""Sentry's API for monitors, alerts and dashboards on loopback: it refuses what the recorded schema does not allow.

Written from the request schemas of getsentry/sentry-api-schema, commit a589a26c (2026-08-16); ids count from 1.
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "sntrys_the-token"
_PAGE = 3
_NUMBER = (int, float)
_OPTIONAL_TEXT = (str, type(None))

_CONDITIONS = {"logicType": {"any", "any-short", "all", "none"}, "conditions": [dict], "actions": [dict]}
#: Field -> its type, a set of choices, [type of the items], or a nested schema; "!" at the end of a name: required.
SCHEMAS: dict[str, dict[str, Any]] = {
    "detectors": {
        "name!": str, "type!": {"metric_issue"}, "description": _OPTIONAL_TEXT, "enabled": bool, "workflowIds": [int],
        "owner": _OPTIONAL_TEXT,
        "config": {"detectionType!": {"static", "percent", "dynamic"}, "comparisonDelta": int},
        "dataSources": [{
            "aggregate!": str, "dataset!": {"events", "events_analytics_platform"}, "environment": str,
            "eventTypes!": [{"error", "default", "trace_item_span", "trace_item_metric"}], "query!": str,
            "queryType!": int, "timeWindow!": int, "extrapolationMode": str,
        }],
        "conditionGroup": {
            "logicType!": {"any"}, "actions": [dict],
            "conditions": [{"type!": {"gt", "lte"}, "comparison!": _NUMBER, "conditionResult!": {0, 50, 75}}],
        },
    },
    "workflows": {
        "name!": str, "enabled": bool, "detectorIds": [int], "environment": _OPTIONAL_TEXT, "owner": _OPTIONAL_TEXT,
        "config": {"frequency": {0, 5, 10, 30, 60, 180, 720, 1440}}, "triggers": _CONDITIONS,
        "actionFilters": [{"logicType!": {"any", "any-short", "all", "none"}, "conditions": [dict], "actions": [{
            "type!": {"email", "slack", "pagerduty"}, "integrationId": _OPTIONAL_TEXT, "data": dict,
            "config": {"targetType!": {"user", "team", "issue_owners", "specific"}, "targetDisplay": _OPTIONAL_TEXT,
                       "targetIdentifier": _OPTIONAL_TEXT},
            "status": {"active"},
        }]}],
    },
    "dashboards": {
        "title!": str, "projects": [int], "environment": (list, type(None)), "period": _OPTIONAL_TEXT, "filters": dict,
        "widgets": [{
            "title": str, "description": _OPTIONAL_TEXT, "interval": str, "limit": (int, type(None)),
            "displayType": {"line", "area", "bar", "table", "big_number", "categorical_bar"},
            "widgetType": {"issue", "error-events", "spans", "logs", "tracemetrics"},
            "layout": {"x!": int, "y!": int, "w!": int, "h!": int, "minH!": int},
            "queries": [{"name": str, "fields!": [str], "aggregates": [str], "columns": [str], "conditions!": str,
                         "orderby": str, "fieldAliases": [str]}],
        }],
    },
}  # fmt: skip


def faults(value: Any, schema: Any, where: str = "body") -> list[str]:
    """What *schema* does not allow in *value*."""
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{where}: no object"]
        fields = {name.rstrip("!"): kind for name, kind in schema.items()}
        found = [f"{where}.{name}: unknown" for name in value if name not in fields]
        found += [f"{where}.{name[:-1]}: missing" for name in schema if name[-1] == "!" and name[:-1] not in value]
        for name, kind in fields.items():
            if name in value:
                found += faults(value[name], kind, f"{where}.{name}")
        return found
    if isinstance(schema, list):
        if not isinstance(value, list):
            return [f"{where}: no list"]
        return [fault for index, item in enumerate(value) for fault in faults(item, schema[0], f"{where}[{index}]")]
    if isinstance(schema, set):
        return [] if value in schema else [f"{where}: {value!r} is none of {schema}"]
    if isinstance(value, bool) and schema is not bool:
        return [f"{where}: a boolean"]
    return [] if isinstance(value, schema) else [f"{where}: {type(value).__name__}"]


class SentryApi:
    """Use as a context manager. *kept*: kind -> id -> body; *refused*: what was wrong, by request."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[int, dict[str, Any]]] = {kind: {} for kind in SCHEMAS}
        self.calls: list[str] = []
        self.refused: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                status, made, link = owner.handle(self.command, self.path, self.headers.get("Authorization"), body)
                payload = json.dumps(made).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(payload)))
                for name, value in link.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> SentryApi:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def handle(self, method: str, path: str, token: str | None, body: Any) -> tuple[int, Any, dict[str, str]]:
        """The status, the answer, and headers."""
        self.calls.append(f"{method} {path}")
        if token != f"Bearer {TOKEN}":
            return 401, {"detail": f"Invalid token {token}"}, {}
        if "/moved/" in path:
            return 302, {}, {"Location": "http://127.0.0.1:9/elsewhere"}
        found = re.fullmatch(r"/api/0/organizations/acme/(projects/shop/)?(\w+)/(?:(\d+)/)?", urlsplit(path).path)
        if found is None or found[2] not in SCHEMAS:
            return 404, {"detail": "not found"}, {}
        kept = self.kept[found[2]]
        if method == "GET":
            first = int(parse_qs(urlsplit(path).query).get("cursor", ["0"])[0])
            page = [{"id": str(key), **kept[key]} for key in sorted(kept)[first : first + _PAGE]]
            more = "true" if len(kept) > first + _PAGE else "false"
            link = '<http://x/?cursor=0>; rel="previous"; results="false"; cursor="0", <http://x/>; rel="next"; '
            return 200, page, {"Link": f'{link}results="{more}"; cursor="{first + _PAGE}"'}
        wrong = faults(body, SCHEMAS[found[2]])
        if (method == "POST" and found[2] == "detectors") != bool(found[1]):
            wrong.append("monitors are created below their project, and only there")
        if wrong:
            self.refused += wrong
            return 400, {"detail": wrong}, {}
        key = int(found[3]) if found[3] else len(kept) + 1
        kept[key] = body
        return 201 if method == "POST" else 200, {"id": str(key), **body}, {}
