"""Messages: from publish() through Redis, worker and proxies to the socket, on a facility that nobody else hears."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ... import live, publisher, redis_errors
from ...channels import Channel, channel_name
from ...wording import of_them
from ..findings import Problem, Row
from . import hints, location
from .way import STEP_SECONDS, Broken, Way, milliseconds, seen
from .websocket import Websocket

LARGE_BYTES = 100 * 1024  # above what proxies buffer, and what one TLS record holds
TEXT_CHARACTERS = 10_000


def send_nonce(way: Way) -> Row:
    """Publish a nonce twice: first for the time of Redis alone, then with a receipt, for the worker's."""
    way.hearer = _hearer(way)
    first, second = nonce(), nonce()
    began_at = time.monotonic()
    publish(way, first)
    to_redis = time.monotonic() - began_at
    if receive(way.talk, first) is None:
        raise Broken(seen("it does not arrive", _lost(way, way.hearer)))
    with ThreadPoolExecutor(1) as pool:
        began_at = time.monotonic()
        published = pool.submit(publish, way, second, receipt=True)
        arrived_at = receive(way.talk, second)
        receipt: publisher.Receipt = published.result()
    found = f"to Redis and back in {milliseconds(to_redis)}; {_told(receipt)}"
    if arrived_at is None:
        raise Broken(seen(f"{found}; not here", _damaged(way, "the second message", "nothing")))
    problems = () if receipt.sockets else (_without_receipt(way),)
    return seen(f"{found}; here after {milliseconds(arrived_at - began_at)}", *problems)


def _hearer(way: Way) -> str:
    """Return the user to whom our messages go, as the site grants nothing that is for everybody; "" for everybody."""
    channels = [name for socket in live.connections(facility=way.scratch).sockets for name in socket.channels]
    names = [channel_name(_channel(way, user)) for user in ("", way.user)]
    return way.user if names[0] not in channels and names[1] in channels else ""


def _channel(way: Way, user: str) -> Channel:
    return Channel("user", user, way.scratch) if user else Channel("broadcast", "", way.scratch)


def _told(receipt: publisher.Receipt) -> str:
    if not receipt.sockets:
        return "no receipt of a worker"
    if receipt.unanswered:  # then the time is that of waiting
        others = of_them(receipt.unanswered, "more listens", "more listen")
        return f"a receipt of the worker; {others} in Redis, without one"
    return f"the worker's receipt after {milliseconds(receipt.seconds)}"


def send_to_user(way: Way) -> Row:
    """Publish a nonce to the user who is logged in by our session."""
    sent = nonce()
    began_at = time.monotonic()
    publish(way, sent, user=way.user)
    arrived_at = receive(way.talk, sent)
    if arrived_at is None:
        return seen("it does not arrive", _lost(way, way.user))
    return seen(f"here after {milliseconds(arrived_at - began_at)}")


def send_binary(way: Way) -> Row:
    """Publish each byte that there is."""
    return _exchange(way, bytes(range(256)) + secrets.token_bytes(16))


def send_large(way: Way) -> Row:
    """Publish what no compression makes smaller."""
    return _exchange(way, secrets.token_bytes(LARGE_BYTES))


def send_compressible(way: Way) -> Row:
    """Publish what is compressed, if that was agreed on."""
    row = _exchange(way, nonce() + "x" * max(TEXT_CHARACTERS, way.settings.compression))
    if agreed := way.talk.extensions:
        return seen(f"{', '.join(agreed)}: {row.found}", *row.problems)
    if not way.settings.compression:
        return seen(f"off, by WSREDIS['COMPRESSION']: {row.found}", *row.problems)
    problem = Problem(
        id="wsredis.W630",
        text=f"Proxy: there is no permessage-deflate, though WSREDIS['COMPRESSION'] is {way.settings.compression}.",
        hint=(
            "NGiNX: proxy_set_header Sec-WebSocket-Extensions $http_sec_websocket_extensions;\n"
            "and no proxy_hide_header Sec-WebSocket-Extensions; Apache: no RequestHeader or Header unset of it."
        ),
    )
    return seen(f"none: {row.found}", *row.problems, problem)


# One message


def nonce() -> str:
    """Return a text that nobody else sends."""
    return f"wscheck {secrets.token_hex(16)}"


def publish(way: Way, message: str | bytes, *, user: str = "", receipt: bool = False) -> Any:
    """Publish to the scratch facility; it is kept nowhere. Raises BrokerUnavailable."""
    options: publisher.Options = {"facility": way.scratch, "expire": 0, "on_commit": False}
    if name := user or way.hearer:
        options["users"] = [name]
    else:
        options["broadcast"] = True
    return publisher.publish(message, receipt=True, **options) if receipt else publisher.publish(message, **options)


def receive(websocket: Websocket, wanted: str | bytes) -> float | None:
    """Return when a message came, by the monotonic clock, and None if it did not; others are passed over.

    Raises ConnectionClosed.
    """
    deadline = time.monotonic() + STEP_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        try:
            if websocket.receive(left) == wanted:
                return time.monotonic()
        except TimeoutError:
            break
    return None


def _exchange(way: Way, message: str | bytes) -> Row:
    publish(way, message)
    what = of_them(len(message), "byte" if isinstance(message, bytes) else "character")
    if receive(way.talk, message) is not None:
        return seen(f"{what} arrived")
    return seen("it does not arrive", _damaged(way, what, "nothing, or something else"))


# What went wrong


def _lost(way: Way, user: str) -> Problem:
    """Return why a message does not come, by what the workers here know of the socket. user: whom it was for."""
    known = live.connections(facility=way.scratch).sockets
    if not known:
        if stranger := location.explain_stranger(way):
            return stranger
        where = f"{redis_errors.shown_url(way.settings.url)}, PREFIX {way.settings.prefix!r}"
        return Problem(
            id="wsredis.E627",
            text=f"Redis: what is published here ({where}) does not arrive, and no worker there has the socket.",
            hint=(
                f"The site needs what is here: WSREDIS = {{'URL': …, 'PREFIX': {way.settings.prefix!r}, …}}\n"
                "Compare, on both: ./manage.py wscheck --only redis\n"
                "If they are the same, an older process runs: systemctl restart mysite"
            ),
        )
    (socket, *_) = known
    if user and socket.user != user:
        text = f"Session: the site takes {user} for {socket.user or 'nobody'}."
        return Problem(id="wsredis.E618", text=text, hint=hints.SESSION)
    name = channel_name(_channel(way, user))
    if name not in socket.channels:
        text = f"Permission: {name} is not granted; the socket has {', '.join(socket.channels)}."
        hint = (
            f"{hints.ALLOWED}  # with 'subscribe-{'user' if user else 'broadcast'}'\n"
            f"The class of WSREDIS['SUBSCRIBER'], if there is one, must return the channel: {name}"
        )
        return Problem(id="wsredis.E619", text=text, hint=hint)
    return _damaged(way, "a message, which the worker has sent", "nothing")


def _damaged(way: Way, what: str, came: str) -> Problem:
    return Problem(
        id="wsredis.E629",
        text=f"Proxy: of {what}, {came} came in {STEP_SECONDS:g} s.",
        hint=(
            "What is between keeps data back, or changes it: a limit of bandwidth, a scanner, a cache.\n"
            f"{hints.nearer(way)}"
        ),
    )


def _without_receipt(way: Way) -> Problem:
    return Problem(
        id="wsredis.W628",
        text="Redis: the message arrives, and the worker's receipt for it does not: wsinspect sees nothing, either.",
        hint=(
            "The site's WSREDIS['URL'] must name the same database of Redis as the one here: "
            f"{redis_errors.shown_url(way.settings.url)}\n"
            "Or its user of Redis may not RPUSH. With the settings of the site: ./manage.py wscheck --only redis"
        ),
    )
