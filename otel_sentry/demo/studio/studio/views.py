"""Pages that belong to no app."""

from __future__ import annotations

from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_GET


@require_GET
def slow_report(request: HttpRequest) -> JsonResponse:
    """A report whose query is slow."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.6)")
        cursor.execute("SELECT status, count(*) FROM posts_post GROUP BY status")
        return JsonResponse({"posts": dict(cursor.fetchall())})
