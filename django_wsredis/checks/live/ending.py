"""How sockets end: by a close code, or without a word."""

from __future__ import annotations

import math

from websockets.exceptions import ConnectionClosed
from websockets.frames import Close

from ..findings import Problem, Row
from .hints import BOTH_LOGS, SITE_LOG, again, nearer
from .way import STEP_SECONDS, Way, seen

CODE = 4000  # of ours; those from 4000 on are for applications (RFC 6455, 7.4.2)
USUAL_SECONDS = 60  # for which proxies wait
SILENT = Close(1011, "no answer to a ping")  # as `loop/keepalive.py` closes


def close(way: Way) -> Row:
    """Close the socket with a code, which the worker sends back."""
    code = way.line.close(CODE, "wscheck")
    if code == CODE:
        return seen(f"{CODE} came back")
    problem = Problem(
        id="wsredis.E635",
        text=f"Proxy: the close code {CODE} does not come back in {STEP_SECONDS:g} s, but {code}.",
        hint=(
            "Browsers then see 1006, and wsredis.js comes back where it should not. What is between cuts too early.\n"
            f"uWSGI, where its http router is used: http-websockets = true\n{nearer(way)}"
        ),
    )
    return seen(str(code), problem)


def cut(way: Way, seconds: float) -> Row:
    """Return the row for a silent socket that ended without a close code."""
    text = f"after {seconds:.1f} s a proxy cut the silent socket: there is no close code of ours"
    return seen(f"cut after {seconds:.1f} s", _too_silent(way, text, seconds))


def forgotten(way: Way, seconds: float) -> Row:
    """Return the row for a silent socket through which nothing comes any more, and nobody has ended it."""
    text = (
        f"after {seconds:g} s of silence no ping is answered any more: a firewall, a NAT or a proxy forgot the socket"
    )
    return seen("no pong", _too_silent(way, text, seconds))


def _too_silent(way: Way, text: str, seconds: float) -> Problem:
    every = way.settings.ping_interval
    enough = max(USUAL_SECONDS, math.ceil(3 * every))
    return Problem(
        id="wsredis.E632",
        text=f"Idle timeout: {text}.",
        hint=(
            f"The site pings each {every:g} s (WSREDIS['PING_INTERVAL']); whatever is between must wait longer.\n"
            f"NGiNX: proxy_read_timeout {enough}s; or uwsgi_read_timeout {enough}s;\n"
            f"HAProxy: timeout tunnel {enough}s\nApache: Timeout {enough}\n"
            f"A load balancer or a firewall that cannot: WSREDIS = {{'PING_INTERVAL': {max(1, int(seconds / 2))}, …}}"
        ),
    )


def closed_early(way: Way, closed: ConnectionClosed, seconds: float) -> Problem:
    """Return the problem that the socket has ended in the midst of a step."""
    if closed.rcvd is None:
        layer, hint = "Site or proxy", f"The worker has died, or a proxy was stopped or reloaded.\n{BOTH_LOGS}"
        text = "the socket was cut, with no close code: by a proxy, or its worker has died"
    else:
        layer, hint = _meaning(way, closed.rcvd)
        reason = f" ({closed.rcvd.reason})" if closed.rcvd.reason else ""
        text = f"the site closed the socket with {closed.rcvd.code}{reason}"
    return Problem(id="wsredis.E633", text=f"{layer}: after {seconds:.1f} s {text}.", hint=hint)


def _meaning(way: Way, received: Close) -> tuple[str, str]:
    """Return the layer for which a worker closes with a code, and what to do."""
    if received == SILENT:
        return "Proxy", f"The answers to the site's pings do not arrive there.\n{nearer(way)}"
    match received.code:
        case 4401:
            return "Session", f"It has ended: its user has logged out. Again: {again(way, '--user NAME')}"
        case 4403:
            return "Permission", (
                "It was withdrawn: by disconnect(), ./manage.py wsinspect, or WSREDIS['ALLOWED_CHANNELS'], which was "
                f"asked again. Again, as somebody who may: {again(way, '--user NAME')}"
            )
        case 1001 | 1012:
            return "Site", f"It stops, or is reloaded. Once it runs: {again(way)}"
    return "Site", SITE_LOG
