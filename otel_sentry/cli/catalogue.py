"""``otel-sentry catalogue``: the files of each backend, and Sentry's monitors, alerts and dashboard through its API."""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from otel_sentry.business import render
from otel_sentry.business.render import sentry

_TIMEOUT_S = 30
_MAX_PAGES = 100


class Refused(Exception):
    """Sentry did not do it; the text says why, in one line, without the token."""


def run(arguments: Any) -> int:
    """Print what *arguments* (of the command line) ask for, or apply it; the exit status."""
    if arguments.backend != "sentry":
        files = render.files()
        if arguments.backend == render.GRAFANA and render.GRAFANA not in files:
            sys.stderr.write(
                "otel-sentry catalogue: this needs Grafana's builder: pip install grafana-foundation-sdk\n"
            )
            return 2
        if arguments.backend not in files:
            sys.stderr.write(f"otel-sentry catalogue: expected sentry, {', '.join(files)}\n")
            return 2
        sys.stdout.write(files[arguments.backend])
        return 0
    wanted = sentry.definitions(arguments.environment)
    if not arguments.apply:
        json.dump(wanted, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
        return 0
    token = os.environ.get(arguments.token_env, "").strip()
    missing = [f"--{name}" for name in ("org", "project") if not getattr(arguments, name)]
    if missing or not token:
        missing += [] if token else [f"a token in {arguments.token_env}"]
        sys.stderr.write(f"otel-sentry catalogue: --apply needs {' and '.join(missing)}\n")
        return 2
    try:
        apply(Api(arguments.url, arguments.org, token), arguments.project, wanted, print)
    except Refused as exc:
        sys.stderr.write(f"otel-sentry catalogue: {exc}\n")
        return 1
    return 0


def apply(api: Api, project: str, wanted: dict[str, Any], say: Callable[[str], None]) -> None:
    """Create what is not there, and update what is: found by name, so that it can be run again.

    Raises:
        Refused: Sentry did not do it.

    """
    ids: dict[str, int] = {}
    known = api.all(f"detectors/?project={urllib.parse.quote(project)}", "name")
    for body in wanted["monitors"]:
        where = f"projects/{urllib.parse.quote(project)}/detectors/", "detectors/"
        ids[body["name"]] = api.put("monitor", body["name"], known, body, *where, say)
    known = api.all("workflows/", "name")
    for body in wanted["alerts"]:
        level = body["name"].removeprefix(sentry.PREFIX)
        body = {**body, "detectorIds": [ids[name] for name in sentry.monitors_of(level)]}
        api.put("alert", body["name"], known, body, "workflows/", "workflows/", say)
    known = api.all("dashboards/", "title")
    body = wanted["dashboard"]
    api.put("dashboard", body["title"], known, body, "dashboards/", "dashboards/", say)


class Api:
    """Sentry's API, for one organisation. *url*: of Sentry itself, e.g. ``https://sentry.io``."""

    def __init__(self, url: str, org: str, token: str) -> None:
        self._base = f"{url.rstrip('/')}/api/0/organizations/{urllib.parse.quote(org)}/"
        self._token = token
        self._opener = urllib.request.build_opener(_NoRedirect)  # it would take the token along

    def put(
        self,
        what: str,
        name: str,
        known: dict[str, str],
        body: dict[str, Any],
        create: str,
        update: str,
        say: Callable[[str], None],
    ) -> int:
        """Create *body* at *create*, or replace the one of that name below *update*; its id."""
        found = known.get(name)
        if found is not None:
            self._call("PUT", f"{update}{found}/", body)
            say(f"updated {what} {name!r}")
            return int(found)
        made, _ = self._call("POST", create, body)
        say(f"created {what} {name!r}")
        return int(made["id"])

    def all(self, path: str, field: str) -> dict[str, str]:
        """Name -> id of all that there is at *path*."""
        found: dict[str, str] = {}
        cursor = ""
        for _ in range(_MAX_PAGES):
            page, link = self._call("GET", path + cursor)
            found.update({str(one[field]): str(one["id"]) for one in page})
            following = re.search(r'rel="next"; results="true"; cursor="([^"]+)"', link)
            if following is None:
                break
            cursor = f"{'&' if '?' in path else '?'}cursor={urllib.parse.quote(following[1])}"
        return found

    def _call(self, method: str, path: str, body: Any = None) -> tuple[Any, str]:
        request = urllib.request.Request(
            self._base + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as response:
                return json.load(response), response.headers.get("Link") or ""
        except urllib.error.HTTPError as exc:
            with exc:
                raise Refused(self._line(f"{method} {path}: {exc.code} {_reason(exc)}")) from None
        except (OSError, ValueError) as exc:
            raise Refused(self._line(f"{method} {path}: {exc}")) from None

    def _line(self, text: str) -> str:
        return text.replace(self._token, "<token>").replace("\n", " ")


def _reason(exc: urllib.error.HTTPError) -> str:
    if exc.code in (301, 302, 303, 307, 308):
        return "it lives elsewhere: give that address with --url"
    return exc.read(2000).decode("utf-8", "replace") or str(exc.reason)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None
