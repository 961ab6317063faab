"""What is wrong with the settings for a site that is open to the world; for `check --deploy`, too."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings as django_settings
from django.core.handlers.wsgi import WSGIHandler
from django.utils.module_loading import import_string

from .findings import Problem, Row
from .situation import Situation

TITLES = {
    "wsredis.W003": "WSGI_APPLICATION is Django's own, which answers websockets with 404.",
}


def look(situation: Situation) -> Iterator[Row]:
    """Look at what differs between a developer's machine and a server."""
    yield _application()


def _application() -> Row:
    dotted = django_settings.WSGI_APPLICATION
    try:
        application = dotted and import_string(dotted)
    except ImportError:  # Django's own commands say that well
        application = None
    if not isinstance(application, WSGIHandler):  # ours, or one that wraps another
        return Row(checked="WSGI_APPLICATION", found=str(dotted))
    problem = Problem(
        id="wsredis.W003",
        text=f"{dotted} is Django's own application: under uWSGI and gunicorn every websocket gets 404.",
        hint="In wsgi.py, import get_wsgi_application from django_wsredis.wsgi. (runwsserver needs no change.)",
    )
    return Row(checked="WSGI_APPLICATION", found=dotted, problems=(problem,))
