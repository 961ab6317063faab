"""A message that is published, heard and read again, by the commands of workers and publishers."""

from __future__ import annotations

import time
from contextlib import closing

from ... import redis, redis_errors
from ...commands import publish_command, read_command, stored
from ...conf import Keep
from ...exceptions import BrokerUnavailable
from ...inspection.followed import Link, Moved
from ...messages import Message, decode
from ...wording import sentence
from ..findings import Problem
from .master import Found, Master, NotSeen

HEAR_SECONDS = 1.0
KEEP = Keep(1, 60, is_history=False)  # it is removed at once; if that fails, after a minute
PAYLOAD = "wscheck"

TITLES = {
    "wsredis.E127": "A message is not published, heard or kept.",
}


def message(master: Master) -> Found:
    """Publish a message on a channel that nobody has, and see that it arrives and is kept."""
    if master.lacks:
        raise NotSeen("without the commands and rights that are missing it would fail")
    try:
        with closing(Link(master.settings.url, master.place)) as link:
            seconds = _heard(master, link)
        (reply,) = redis.execute([read_command(master.scratch, None)])
    except Moved:
        raise NotSeen("slots of the cluster move just now") from None
    except BrokerUnavailable as error:
        if not (words := redis_errors.refusal(error)):
            raise
        return "refused", (_failed(sentence(f"{master.address} refuses a message: {words}"), _cure(words)),)
    finally:
        _remove(master.scratch)
    if seconds is None:
        what = f"A message that was published at {master.address} was not heard there within {HEAR_SECONDS:g} s."
        return "not heard", (_failed(what, "Is there a proxy between that knows no pub/sub? Name Redis itself."),)
    if [one.data for one in stored(master.scratch, reply).messages] != [PAYLOAD]:
        what = f"A message that was published at {master.address} was heard, and not kept."
        return "not kept", (_failed(what, "Do reads go to a replica? Name the master."),)
    return f"published, heard after {seconds * 1000:.1f} ms, read again", ()


def _heard(master: Master, link: Link) -> float | None:
    """Return the seconds until a message was heard; None if it was not."""
    link.subscribe(master.scratch)
    link.confirm()
    began_at = time.monotonic()
    redis.execute(
        [publish_command(master.scratch, Message(PAYLOAD.encode(), True), KEEP, is_sharded=master.is_sharded)]
    )
    while time.monotonic() < began_at + HEAR_SECONDS:
        for _, data in link.read(0.05):
            if decode(data).data == PAYLOAD:
                return time.monotonic() - began_at
    return None


def _remove(name: bytes) -> None:
    try:
        redis.execute([("EXPIRE", name, 0)])
    except BrokerUnavailable:  # then it lives for a minute, if it is there at all
        pass


def _failed(text: str, hint: str) -> Problem:
    return Problem(id="wsredis.E127", text=text, hint=hint)


def _cure(words: str) -> str:
    """Return what to do about a refusal, by its words."""
    for word, cure in _CURES.items():
        if word in words:
            return cure
    return "See the log of Redis."


_CURES = {
    "MISCONF": "It cannot write to its disk; its log says why. See: redis-cli INFO persistence",
    "not able to persist": "It cannot write to its disk; its log says why. See: redis-cli INFO persistence",
    "maxmemory": "Its memory is full: redis-cli CONFIG SET maxmemory BYTES; see redis-cli --bigkeys",
    "OOM": "Its memory is full: redis-cli CONFIG SET maxmemory BYTES; see redis-cli --bigkeys",
    "enough good replicas": "It has fewer replicas than min-replicas-to-write: start them, or lower that.",
    "cluster is down": "Slots have no master; see which: redis-cli --cluster check HOST:PORT",
    "read only": "It is a replica: name its master in WSREDIS['URL'].",
}
