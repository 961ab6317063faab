"""The WSGI application that a server is told to run: whether it takes websockets."""

from __future__ import annotations

import sys
from pathlib import Path

from django.core.handlers.wsgi import WSGIHandler
from django.utils.module_loading import import_string

from .findings import Problem, Row, skipped


def application_row(named: str, *, id: str, place: str) -> Row:
    """Say what `module:name`, or `module`, is. id: of the problem if it is Django's own application."""
    checked = "application"
    module, _, name = named.partition(":")
    name = name.removesuffix("()") or "application"
    from ..hosts import patching  # gevent: not for every command

    try:
        with patching.refused():  # which would take the database and the threads from who has been running for long
            application = import_string(f"{module}.{name}")
    except (Exception, SystemExit) as error:  # whatever the project's module raises; here it may miss its server
        return skipped(checked, f"{named} cannot be imported here: {error}")
    if not isinstance(application, WSGIHandler):  # ours, or one that wraps another
        return Row(checked=checked, found=named)
    problem = Problem(
        id=id,
        text=f"{named} is Django's own application: a websocket that comes here gets 404.",
        hint=f"In {module}, import get_wsgi_application from django_wsredis.wsgi; or send websockets elsewhere.",
        place=place,
    )
    return Row(checked=checked, found=f"{named}, Django's own", problems=(problem,))


def module_of(path: Path) -> str | None:
    """Return the name under which Python imports a file; None if it does not."""
    for folder in map(Path, sys.path):
        if folder.is_absolute() and path.is_relative_to(folder) and path.suffix == ".py":
            parts = path.relative_to(folder).with_suffix("").parts
            if all(part.isidentifier() for part in parts):
                return ".".join(parts)
    return None
