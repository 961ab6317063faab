"""How sockets end: by a close code, or without a word."""

from __future__ import annotations

from websockets.exceptions import ConnectionClosed

from ..findings import Problem, Row
from .way import STEP_SECONDS, Way, seen

CODE = 4000  # of ours; those from 4000 on are for applications (RFC 6455, 7.4.2)


def close(way: Way) -> Row:
    """Close the socket with a code, which the worker sends back."""
    code = way.line.close(CODE, "wscheck")
    if code == CODE:
        return seen(f"{CODE} came back")
    problem = Problem(
        id="wsredis.E635",
        text=f"Proxy: the close code {CODE} does not come back in {STEP_SECONDS:g} s, but {code}.",
        hint="Browsers then see 1006, and wsredis.js comes back where it should not. What is between cuts too early.",
    )
    return seen(str(code), problem)


def cut(way: Way, seconds: float) -> Row:
    """Return the row for a silent socket that ended without a close code."""
    every = way.settings.ping_interval
    problem = Problem(
        id="wsredis.E632",
        text=f"Idle timeout: after {seconds:.1f} s a proxy cut the silent socket: there is no close code of ours.",
        hint=(
            f"The site pings each {every:g} s (WSREDIS['PING_INTERVAL']); whatever is between must wait longer.\n"
            "NGiNX: proxy_read_timeout 60s; or uwsgi_read_timeout 60s;\n"
            "HAProxy: timeout tunnel 60s\nApache: Timeout 60\n"
            f"A load balancer that cannot: WSREDIS = {{'PING_INTERVAL': {max(1, int(seconds / 2))}, …}}"
        ),
    )
    return seen(f"cut after {seconds:.1f} s", problem)


def closed_early(closed: ConnectionClosed, seconds: float) -> Problem:
    """Return the problem that the socket has ended in the midst of a step."""
    if closed.rcvd is None:
        text = f"after {seconds:.1f} s the socket was cut, with no close code: by a proxy, or its worker has died"
    else:
        reason = f" ({closed.rcvd.reason})" if closed.rcvd.reason else ""
        text = f"after {seconds:.1f} s the site closed the socket with {closed.rcvd.code}{reason}"
    hint = (
        "1001 and 1012: the site stops or is reloaded; try again. 1011: no pong arrived. 1013: too slow. 4401, 4403: "
        "the session or the permission ended. The site's log has a line for most."
    )
    return Problem(id="wsredis.E633", text=f"Socket: {text}.", hint=hint)
