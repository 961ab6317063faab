"""What a page needs to connect."""

from __future__ import annotations

import json

from django.http import HttpRequest
from django.utils.safestring import SafeString, mark_safe

from .conf import get_settings

# as django.utils.html.json_script does, so that no text can end a script element
_ESCAPES = {ord(">"): "\\u003E", ord("<"): "\\u003C", ord("&"): "\\u0026"}


def default(request: HttpRequest) -> dict[str, str | SafeString]:
    """Give templates `WEBSOCKET_URI` (`wss://host/ws/`) and `WSREDIS_HEARTBEAT` (a JavaScript text, or `null`).

    `WS4REDIS_HEARTBEAT` is the same, for templates that were written for ws4redis.
    """
    settings = get_settings()
    scheme = "wss" if request.is_secure() else "ws"
    script_name = request.META.get("SCRIPT_NAME", "").rstrip("/")
    heartbeat = mark_safe(json.dumps(settings.heartbeat).translate(_ESCAPES))
    return {
        "WEBSOCKET_URI": f"{scheme}://{request.get_host()}{script_name}{settings.websocket_url}",
        "WSREDIS_HEARTBEAT": heartbeat,
        "WS4REDIS_HEARTBEAT": heartbeat,
    }
