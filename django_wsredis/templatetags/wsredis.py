"""`{% load wsredis %}`: what a page that opens a socket is rendered with."""

from __future__ import annotations

import logging
from urllib.parse import quote

from django.core.exceptions import ImproperlyConfigured
from django.template import Context, Library

from ..exceptions import BrokerUnavailable
from ..reader import cursor

logger = logging.getLogger("django_wsredis.templatetags")

register = Library()


@register.simple_tag(takes_context=True)
def wsredis_cursor(context: Context, facility: str) -> str:
    """Return where the visitor's channels stand now, for a URL: `?subscribe-user&since={% wsredis_cursor 'chat' %}`.

    It is empty, and the socket joins as a new one, if Redis is away.
    """
    request = context.get("request", getattr(context, "request", None))
    if request is None:
        raise ImproperlyConfigured("{% wsredis_cursor %} needs the request: use render(request, …)")
    try:
        return quote(cursor(request, facility), safe="")
    except BrokerUnavailable as error:
        logger.warning("A page is rendered without the position of %s: %s", facility, error)
        return ""
