"""The whole way to a socket and back, through the real front door: one step after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from http.client import HTTPException
from typing import NamedTuple

from websockets.exceptions import ConnectionClosed

from ...exceptions import BrokerUnavailable
from ...wording import sentence
from ..findings import Problem, Row, skipped
from ..situation import Situation
from . import certificate, ending, messages, opening, origin, reaching, silence, target, visiting
from .way import Broken, Way, milliseconds, seen

# A problem begins with the layer that has it, or with those that may have it: "Site or proxy: …", as its title does.
TITLES = {
    "wsredis.E601": "URL: it leads to no facility below WEBSOCKET_URL.",
    "wsredis.E602": "DNS: the name does not resolve.",
    "wsredis.E603": "TCP: nothing accepts connections.",
    "wsredis.W604": "TCP: one of the addresses accepts no connections.",
    "wsredis.E605": "TLS: one side speaks it, and the other does not.",
    "wsredis.E606": "TLS: the certificate has expired, or is not valid yet.",
    "wsredis.E607": "TLS: the certificate is for another name.",
    "wsredis.E608": "TLS: nobody knows who issued the certificate.",
    "wsredis.W609": "TLS: the certificate is not valid, and --insecure goes on.",
    "wsredis.W610": "TLS: the certificate ends soon.",
    "wsredis.E611": "Session: none can be made for the user.",
    "wsredis.E612": "Proxy: the upgrade is not passed on, or not whole.",
    "wsredis.E613": "Location: what answers is no worker that takes websockets.",
    "wsredis.E614": "Prefix: a proxy strips WEBSOCKET_URL.",
    "wsredis.E615": "Location: the answer is a redirection.",
    "wsredis.E616": "Host: the site does not take the one that arrives.",
    "wsredis.E617": "Origin: pages of the site itself are refused.",
    "wsredis.E618": "Session: the site does not know the user's.",
    "wsredis.E619": "Permission: the site refuses what the URL asks for.",
    "wsredis.E620": "Proxy: it refuses, and not the site.",
    "wsredis.E621": "Proxy: it does not reach the site.",
    "wsredis.E622": "Site or Redis: no websocket is served now.",
    "wsredis.E623": "Site, proxy or location: no answer to the handshake in time.",
    "wsredis.E624": "Site or proxy: the answer is not that of a websocket.",
    "wsredis.W625": "Permission: no message was tried, as the scratch facility is refused.",
    "wsredis.E626": "Redis: it cannot be used from here.",
    "wsredis.E627": "Redis: the site speaks with another one, or with another PREFIX.",
    "wsredis.W628": "Redis: the workers' receipts do not come.",
    "wsredis.E629": "Proxy: a message does not arrive as it was sent.",
    "wsredis.W630": "Proxy: compression is not agreed on.",
    "wsredis.E631": "Proxy: a ping is not answered.",
    "wsredis.E632": "Idle timeout: the silent socket is cut.",
    "wsredis.E633": "Site, proxy, session or permission: the socket is closed too early.",
    "wsredis.E634": "Origin: a foreign page may connect.",
    "wsredis.E635": "Proxy: the close code does not arrive.",
}


class Step(NamedTuple):
    """One row. needs: the names of steps without which it is futile. is_wanted(): whether it was asked for."""

    name: str
    take: Callable[[Way], Row]
    needs: tuple[str, ...] = ()
    is_wanted: Callable[[Situation], object] = bool  # always


def has_user(situation: Situation) -> bool:
    """Tell whether --user is given."""
    return bool(situation.user)


def is_idle(situation: Situation) -> bool:
    """Tell whether --idle is given."""
    return situation.idle > 0


STEPS = (
    Step("URL", target.read),
    Step("session", visiting.begin, ("URL",), has_user),
    Step("name", reaching.resolve, ("URL",)),
    Step("connection", reaching.connect, ("name",)),
    Step("TLS", certificate.look, ("connection",)),
    Step("handshake", opening.shake_hands, ("TLS", "session")),
    Step("scratch facility", opening.open_scratch, ("handshake",)),
    Step("message", messages.send_nonce, ("handshake", "scratch facility")),
    Step("message to the user", messages.send_to_user, ("handshake", "message"), has_user),
    Step("binary message", messages.send_binary, ("handshake", "message")),
    Step("message of 100 KB", messages.send_large, ("handshake", "message")),
    Step("compression", messages.send_compressible, ("handshake", "message")),
    Step("ping", silence.ping, ("handshake",)),
    Step("idle", silence.wait, ("handshake", "ping"), is_idle),
    Step("foreign Origin", origin.look, ("handshake",)),
    Step("close", ending.close, ("handshake", "idle")),
)


def look(situation: Situation) -> Iterator[Row]:
    """Go the whole way. Each step takes some seconds at most, and that of --idle so long as it says."""
    if not situation.live:
        yield skipped("the whole way", "no --live URL")
    elif situation.settings is None:
        yield skipped("the whole way", "the settings are wrong")
    else:
        with ExitStack() as stack:  # closes what was opened, and ends the session: also on Ctrl-C
            runner = stack.enter_context(asyncio.Runner())
            yield from _go(Way(situation=situation, settings=situation.settings, stack=stack, runner=runner))


def _go(way: Way) -> Iterator[Row]:
    broken: set[str] = set()
    futile: dict[str, list[str]] = {}  # steps, by the one without which they are
    for step in STEPS:
        if not step.is_wanted(way.situation):
            continue
        if missing := [name for name in step.needs if name in broken]:
            broken.add(step.name)
            futile.setdefault(missing[0], []).append(step.name)
            continue
        began_at = time.monotonic()
        try:
            row = step.take(way)
        except Broken as error:
            broken.add(step.name)
            row = error.row
        except ConnectionClosed as error:
            broken |= {step.name, "handshake"}
            row = seen("closed", ending.closed_early(way, error, time.monotonic() - began_at))
        except BrokerUnavailable as error:
            broken.add(step.name)
            row = seen("no Redis", _no_broker(error))
        except (OSError, HTTPException) as error:
            broken.add(step.name)
            row = seen("no connection", reaching.lost(way, error))
        took = milliseconds(time.monotonic() - began_at)
        yield replace(row, checked=step.name, found=f"{row.found} ({took})")
    for name, steps in futile.items():
        yield skipped(f"without {name}", ", ".join(steps))


def _no_broker(error: BrokerUnavailable) -> Problem:
    hint = "Run it where WSREDIS['URL'] leads to the site's Redis. What is wrong here: ./manage.py wscheck --only redis"
    return Problem(id="wsredis.E626", text=sentence(f"Redis: nothing can be published: {error}"), hint=hint)
