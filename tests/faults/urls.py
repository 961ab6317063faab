"""The tests' project with a page whose script subscribes, and writes down what it sees."""

from __future__ import annotations

import json
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.urls import path

import django_wsredis

from ..project.urls import urlpatterns as project
from . import plan

SCRIPT = Path(django_wsredis.__file__).parent / "static/django_wsredis/wsredis.js"

PAGE = """<!doctype html><meta charset="utf-8"><title>faults</title><link rel="icon" href="data:,">
<script>%(script)s</script>
<script>
  window.events = [];
  const write = (kind, channel = "", id = "", number = -1) =>
    window.events.push([kind, channel, id, number, Date.now() / 1000]);
  window.socket = new WSRedis(%(url)s, {
    ...%(options)s,
    onopen() { write("open"); },
    onclose(event) { write("close", "", String(event.code)); },
    onmessage(event) { write("message", event.channel, event.id, Number(event.data.split(" ")[1])); },
    onsubscribed(event) { for (const [name, id] of Object.entries(event.channels)) write("ack", name, id ?? ""); },
    ongap(event) { write("gap", event.channel, event.since ?? ""); },
  });
</script>
"""

OPTIONS = {
    "heartbeatInterval": plan.HEARTBEAT_INTERVAL * 1000,
    "heartbeatTimeout": plan.HEARTBEAT_TIMEOUT * 1000,
    "connectTimeout": plan.CONNECT_TIMEOUT * 1000,
    "retryBase": plan.RETRY_BASE * 1000,
    "retryCap": plan.RETRY_CAP * 1000,
    "stableAfter": plan.STABLE_AFTER * 1000,
}


def page(request: HttpRequest, facility: str) -> HttpResponse:
    values = {
        "script": SCRIPT.read_text(),
        "url": json.dumps(f"/ws/{facility}?subscribe-broadcast"),
        "options": json.dumps(OPTIONS),
    }
    return HttpResponse(PAGE % values)


urlpatterns = [*project, path("page/<path:facility>", page)]
