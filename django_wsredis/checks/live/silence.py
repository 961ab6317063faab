"""Pings, and a socket on which nothing else goes."""

from __future__ import annotations

import time

from websockets.exceptions import ConnectionClosed

from ...wording import of_them
from ..findings import Problem, Row
from . import ending
from .hints import nearer
from .way import STEP_SECONDS, Broken, Way, milliseconds, seen


def ping(way: Way) -> Row:
    """Ping the worker."""
    began_at = time.monotonic()
    if way.line.ping(STEP_SECONDS):
        return seen(f"a pong after {milliseconds(time.monotonic() - began_at)}")
    problem = Problem(
        id="wsredis.E631",
        text=f"Proxy: a ping is not answered in {STEP_SECONDS:g} s: what the browser sends does not arrive.",
        hint=f"uWSGI, where its http router is used: http-websockets = true\n{nearer(way)}",
    )
    raise Broken(seen("no pong", problem))


def wait(way: Way) -> Row:
    """Send nothing for as long as --idle says, and a ping then; the site pings, as it does with every browser."""
    seconds = way.situation.idle
    began_at = time.monotonic()
    deadline, came = began_at + seconds, 0
    try:
        while (left := deadline - time.monotonic()) > 0:
            try:
                way.line.receive(left)
                came += 1
            except TimeoutError:
                break
        if not way.line.ping(STEP_SECONDS):
            raise Broken(ending.forgotten(way, seconds))
    except ConnectionClosed as closed:
        if closed.rcvd is not None:
            raise
        raise Broken(ending.cut(way, time.monotonic() - began_at)) from None
    noise = f"; not silent: {of_them(came, 'message')} came on {way.facility}" if came else ""
    return seen(f"open after {seconds:g} s, pinged each {way.settings.ping_interval:g} s{noise}")
