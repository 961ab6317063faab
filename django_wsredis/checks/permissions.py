"""What ALLOWED_CHANNELS lets a visitor do whom nobody knows."""

from __future__ import annotations

import reprlib
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.http import HttpRequest

from ..channels import AUDIENCES
from ..conf import Settings, resolve
from .findings import Problem, Row, skipped
from .situation import Situation
from .waiting import within

PROJECT_SECONDS = 2.0  # that its code may take
PROBE = "wscheck"  # the facility that ALLOWED_CHANNELS is asked about
CHECKED = {"publish": "who may publish", "subscribe": "who may subscribe"}
NAMES = [f"{verb}-{audience}" for verb in CHECKED for audience in AUDIENCES]


def rows(situation: Situation) -> Iterator[Row]:
    """Ask ALLOWED_CHANNELS for each right to publish, and then for each to subscribe."""
    settings = situation.settings
    if settings is None:
        yield from (skipped(checked, "the settings are wrong") for checked in CHECKED.values())
        return
    if settings.allowed_channels is None:
        yield Row(checked=CHECKED["publish"], found="the site alone; ALLOWED_CHANNELS would let browsers")
        yield Row(checked=CHECKED["subscribe"], found="everybody, to all that is for them; ALLOWED_CHANNELS decides")
        return
    end = time.monotonic() + PROJECT_SECONDS
    row = _row(settings, "publish", PROJECT_SECONDS)
    yield row
    if any(problem.id == "wsredis.E016" for problem in row.problems):
        yield skipped(CHECKED["subscribe"], "what ALLOWED_CHANNELS returns grants nothing")
    else:
        yield _row(settings, "subscribe", max(end - time.monotonic(), 0.05))


def _row(settings: Settings, verb: str, seconds: float) -> Row:
    checked = CHECKED[verb]
    wanted = [f"{verb}-{audience}" for audience in AUDIENCES]
    request = _nobodys_request(settings.websocket_url)
    try:
        granted = within(seconds, partial(_granted, settings.allowed_channels, request, wanted))
    except PermissionDenied:
        return Row(checked=checked, found="ALLOWED_CHANNELS denies it to who is not logged in")
    except Exception as error:  # whatever the project's code raises, or TimeoutError
        return skipped(checked, f"ALLOWED_CHANNELS failed for who is not logged in, which refuses: {error!r}")
    if wrong := _wrong(granted, wanted):
        return Row(checked=checked, found="not what it meant to grant", problems=(wrong,))
    open_to_all = [name for name in wanted if name in granted]
    if not open_to_all:
        return Row(checked=checked, found="ALLOWED_CHANNELS lets nobody who is not logged in")
    if verb == "subscribe":  # as without ALLOWED_CHANNELS: what is not for everybody goes wherever its reader logs in
        return Row(checked=checked, found=f"everybody: {', '.join(open_to_all)}")
    problem = Problem(
        id="wsredis.W010",
        text=f"ALLOWED_CHANNELS grants {', '.join(open_to_all)} to a visitor who is not logged in.",
        hint='Grant it only to some: "publish-…" names only if request.user.is_authenticated, or has a permission. If '
        "everybody may, skip this check.",
    )
    return Row(checked=checked, found="everybody", problems=(problem,))


def _wrong(granted: Any, wanted: list[str]) -> Problem | None:
    """Return what is wrong with an answer that is meant to grant something, and has no name that anybody asks for."""
    if not granted or (not isinstance(granted, str) and any(name in NAMES for name in granted)):
        return None
    return Problem(
        id="wsredis.E016",
        text=f"ALLOWED_CHANNELS returns {reprlib.repr(granted)}, which grants nothing: it is no list of names that it "
        "is asked for.",
        hint=f"Let it return some of the names in `channels`, as a list: {wanted[:1]}.",
    )


def _granted(reference: Any, request: HttpRequest, wanted: list[str]) -> Any:
    try:
        granted = resolve(reference)(request, wanted)
        return granted if isinstance(granted, str) else list(granted)
    finally:
        connections.close_all()  # those of this thread


def _nobodys_request(websocket_url: str) -> HttpRequest:
    """Return the request of a visitor without a session."""
    from django.contrib.auth.models import AnonymousUser  # has models: only when it is needed

    request = HttpRequest()
    request.method = "GET"
    request.path = request.path_info = f"{websocket_url}{PROBE}"
    request.user = AnonymousUser()
    request.session = SessionStore()
    return request
