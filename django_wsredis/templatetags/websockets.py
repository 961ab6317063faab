"""`{% load websockets %}`: the URLs of websocket views."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.template import Context, Library

from ..routes import websocket_url as absolute_url

register = Library()


@register.simple_tag(takes_context=True)
def websocket_url(context: Context, name: str, /, *args: Any, **kwargs: Any) -> str:
    """Return the absolute URL of a websocket view: `{% websocket_url 'room' name='lobby' %}`, or `… as url`.

    Raises NoReverseMatch, as `{% url %}` does.
    """
    request = context.get("request", getattr(context, "request", None))
    if request is None:
        raise ImproperlyConfigured("{% websocket_url %} needs the request: use render(request, …)")
    return absolute_url(request, name, *args, **kwargs)
