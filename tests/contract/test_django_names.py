"""`OTEL_SENTRY_DJANGO_TRANSACTION_STYLE=sentry`: the names of sentry-python's own integration, on one urlconf."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = r"""
import json, sys, warnings
warnings.simplefilter("ignore")
import django
from django.conf import settings
from django.conf.urls.i18n import i18n_patterns
from django.http import HttpResponse
from django.test import Client
from django.urls import include, path, re_path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[], LOGGING_CONFIG=None)

def view(request, *args, **kwargs):
    return HttpResponse("x")

urlpatterns = [
    path("", view),
    path("users/<int:pk>/", view),
    path("users/<slug:name>/posts/<uuid:post>/", view),
    path("files/<path:rest>", view),
    path("plain/<word>/", view),
    re_path(r"^api/(?P<version>v\d+)/(?P<pk>[0-9]+)/$", view),
    re_path(r"^archive/(\d{4})/(\w+)/?$", view),
    re_path(r"^page/(?:page-)?(?P<n>[0-9]+)/$", view),
    re_path(r"^slug/(?P<slug>[-\w]+)\Z", view),
    re_path(r"^nested/(?P<outer>a(?P<inner>\d+))/$", view),
    path("shop/<int:shop>/", include([path("", view), re_path(r"^item/(?P<item>\d+)/$", view)])),
    re_path(r"^old/", include([path("<int:pk>/edit/", view), re_path(r"^(?P<x>\w+)/$", view)])),
    *i18n_patterns(path("about/", view)),
]
URLS = ["/", "/users/3/", "/users/bob/posts/6f1b3c1e-2222-4c4c-8888-000000000000/", "/files/a/b.txt", "/plain/x/",
        "/api/v2/17/", "/archive/2024/may/", "/archive/2024/may", "/page/page-3/", "/page/3/", "/slug/a-b",
        "/nested/a12/", "/shop/1/", "/shop/1/item/2/", "/old/4/edit/", "/old/abc/", "/en-us/about/", "/nowhere/4/"]
django.setup()

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otel_sentry.convention import describe, describe_start
from otel_sentry_django import DjangoInstrumentor
from sentry_sdk.integrations.django.transactions import LEGACY_RESOLVER

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
DjangoInstrumentor().instrument(tracer_provider=provider)
rows = []
for url in URLS:
    exporter.clear()
    Client().get(url)
    (span,) = exporter.get_finished_spans()
    ours = describe(span, is_root=True, style="sentry")
    # What sentry-python's `_set_transaction_name_and_source` does.
    route = LEGACY_RESOLVER.resolve(url)
    rows.append([url, [ours.name, ours.source], [route or url, "route" if route else "url"],
                 describe_start(span.name, span.kind, span.attributes, "sentry")[0]])
print(json.dumps(rows))
"""


@pytest.mark.parametrize("mode", ["", "http,database"])
def test_names_survive_a_migration(mode: str) -> None:
    """2.7: name and source equal sentry-python's for every kind of route, the sampler's name too."""
    pytest.importorskip("sentry_sdk.integrations.django.transactions")
    environ = {**os.environ, "OTEL_SEMCONV_STABILITY_OPT_IN": mode, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    # sentry-python names what no URL matches by its path: one transaction for each thing that a scanner asks for.
    (unmatched,) = [row for row in rows if row[0] == "/nowhere/4/"]
    assert unmatched[1] == ["/{unmatched}", "route"]
    rows.remove(unmatched)
    assert {url: ours for url, ours, _, _ in rows} == {url: theirs for url, _, theirs, _ in rows}
    assert {url: start for url, _, _, start in rows} == {url: ours[0] for url, ours, _, _ in rows}
