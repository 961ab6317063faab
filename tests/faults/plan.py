"""The load of each trial, and what its processes write down. Imported by programs that have no Django."""

from __future__ import annotations

from typing import Any, NamedTuple

CHANNELS = 50
PER_SECOND = 500  # messages, over all channels
LEAST_PER_SECOND = 0.8 * PER_SECOND  # on a busy machine; while Redis is away nothing is asked for
CLIENTS = 200
SUBSCRIBE_EVERY, SUBSCRIBED = 10, 4  # every tenth client subscribes to so many facilities besides the one of its URL

FACILITIES = [f"chat/{number}" for number in range(CHANNELS)]
HISTORY = {"chat/*": {"messages": 5000, "seconds": 600}}
SUBPROTOCOL = "wsredis.v1"

# of wsredis.js, in seconds; shorter than its defaults, so that a trial is
RETRY_BASE = 0.5
RETRY_CAP = 2.0
STABLE_AFTER = 2.0
HEARTBEAT_INTERVAL = 1.5
HEARTBEAT_TIMEOUT = 1.5
CONNECT_TIMEOUT = 3.0


class Event(NamedTuple):
    """What a client saw: a message, a gap, an ack, the opening or the end of a socket."""

    kind: str
    channel: str  # as clients see it: broadcast:chat/7; empty for open and close
    id: str  # of the message; the position of an ack, before a gap; a close code
    number: int  # of the message; else -1
    at: float  # of time.time(), which all processes and browsers share


class Sent(NamedTuple):
    """A message of a publisher."""

    number: int
    confirmed_at: float | None  # None: publish() gave up, and it is not known whether Redis took it
    seconds: float  # that it took


def channel_of(facility: str) -> str:
    """Return the channel's name as clients see it."""
    return f"broadcast:{facility}"


def payload(facility: str, number: int) -> str:
    return f"{facility} {number}"


def number_of(channel: str, text: str) -> int:
    """Return the number in a payload. Raises ValueError if it is another channel's."""
    facility, number = text.split(" ")
    if channel_of(facility) != channel:
        raise ValueError(f"{text!r} came on {channel}")
    return int(number)


def id_key(id: str) -> tuple[int, int]:
    """Return what sorts a stream's ids."""
    milliseconds, sequence = id.split("-")
    return int(milliseconds), int(sequence)


def facilities_of(client: int) -> list[str]:
    """Return what a client subscribes to, the one of its URL first."""
    count = 1 + (SUBSCRIBED if client % SUBSCRIBE_EVERY == 0 else 0)
    return [FACILITIES[(client + 7 * step) % CHANNELS] for step in range(count)]


def events(rows: list[list[Any]]) -> list[Event]:
    """Return what a client wrote down, from JSON."""
    return [Event(*row) for row in rows]
