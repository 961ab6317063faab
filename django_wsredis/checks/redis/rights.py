"""The rights of Redis' user: each command that we use is tried, on a name that nobody has, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ... import redis
from ...channels import escape
from ...commands import Command, key_name
from ...exceptions import BrokerUnavailable
from ...inspection.servers import CLIENT_NAME
from ..findings import Problem
from .master import Found, Master

LIVES_SECONDS = 60  # for which a list lives if it could not be removed

TITLES = {
    "wsredis.E112": "Redis' user lacks a right that we need.",
    "wsredis.I113": "Redis' user lacks a right that wsinspect needs.",
}


def rights(master: Master) -> Found:
    """Try what workers and publishers need: docs/protocol.rst lists it."""
    tried = tuple(_trials(master))
    master.lacks = tuple(_missing(master, tried))
    found = f"{len({right for right, _ in tried})} commands tried, as the user {master.user}"
    if not master.lacks:
        return f"{found}: all allowed", ()
    return f"{found}: {len(master.lacks)} rights missing", (lacking(master.address, master.user, master.lacks),)


def lacking(where: str, user: str, rights: Iterable[str]) -> Problem:
    """Return the problem of a user who lacks rights, such as "+xadd" and "~wsredis:*"."""
    listed = " ".join(rights)
    return Problem(
        id="wsredis.E112",
        text=f"The Redis at {where} refuses what we need; its user {user} lacks: {listed}",
        hint=f"In redis-cli, on each server: ACL SETUSER {user} {listed}\nThen ACL SAVE, or write it into redis.conf.",
    )


def rights_to_inspect(master: Master) -> Found:
    """Try what only wsinspect, and this command, need."""
    tried = (
        ("info", ("INFO",)),
        ("scan", ("SCAN", 0, "MATCH", master.scratch, "COUNT", 1)),
        ("pttl", ("PTTL", master.scratch)),
        ("config|get", ("CONFIG", "GET", "timeout")),
    )
    missing = tuple(_missing(master, tried))
    if not missing:
        return "all allowed", ()
    listed = " ".join(missing)
    problem = Problem(
        id="wsredis.I113",
        text=f"wsinspect and wscheck do not see all of {master.address}: its user {master.user} lacks: {listed}",
        hint=f"If they are to: ACL SETUSER {master.user} {listed}",
    )
    return f"missing: {listed}", (problem,)


def _trials(master: Master) -> Iterator[tuple[str, Command]]:
    """Yield rights, and a command for each that changes nothing; but for a list that is removed at once."""
    name, key = master.scratch, key_name(master.scratch, b"wscheck")
    yield "expire", ("EXPIRE", name, LIVES_SECONDS)
    yield "exists", ("EXISTS", key)
    yield "set", ("SET", key, "", "XX", "EX", 1)
    yield "client|setname", ("CLIENT", "SETNAME", CLIENT_NAME)
    if master.is_sharded:
        yield "cluster|slots", ("CLUSTER", "SLOTS")
        yield "asking", ("ASKING",)
        yield "spublish", ("SPUBLISH", name, "")
        yield "ssubscribe", ("SSUBSCRIBE", name)
        yield "sunsubscribe", ("SUNSUBSCRIBE", name)
    else:
        yield "publish", ("PUBLISH", name, "")
        yield "subscribe", ("SUBSCRIBE", name)
    yield "unsubscribe", ("UNSUBSCRIBE", name)
    yield "eval", ("EVAL", "return 1", 1, name)
    yield "ping", ("PING",)
    yield "time", ("TIME",)
    yield "xadd", ("XADD", name, "NOMKSTREAM", "*", "m", "")
    yield "xtrim", ("XTRIM", name, "MAXLEN", "=", 0)
    yield "xlen", ("XLEN", name)
    yield "xinfo|stream", ("XINFO", "STREAM", name)
    yield "xrange", ("XRANGE", name, "-", "+", "COUNT", 1)
    yield "xrevrange", ("XREVRANGE", name, "+", "-", "COUNT", 1)
    yield "zadd", ("ZADD", name, "XX", 0, "")
    yield "zrange", ("ZRANGE", name, 0, -1)
    yield "zremrangebyscore", ("ZREMRANGEBYSCORE", name, "-inf", 0)
    yield "zrem", ("ZREM", name, "")
    yield "rpush", ("RPUSH", name, "")
    yield "expire", ("EXPIRE", name, LIVES_SECONDS)
    yield "blpop", ("BLPOP", name, "0.01")
    yield "expire", ("EXPIRE", name, 0)  # and so it is gone, if it was not taken


def _missing(master: Master, tried: Iterable[tuple[str, Command]]) -> Iterator[str]:
    """Yield the rights that are missing, each once. Raises BrokerUnavailable if Redis does not answer."""
    seen: set[str] = set()
    for right, command in tried:
        if right == "rpush" and "+expire" in seen:  # it would stay
            continue
        try:
            master.call(*command)
        except BrokerUnavailable as error:
            if not (words := redis.refusal(error)):
                raise
            missing = _named(master, right, command, words)
            if missing and missing not in seen:
                seen.add(missing)
                yield missing


def _named(master: Master, right: str, command: Command, words: str) -> str:
    """Return the right that Redis' words say is missing; "" if it refused for another reason."""
    words = words.lower()  # of Redis 6.2, or 7: "no permissions to run", "to access a key", "… one of the channels"
    prefix = escape(master.settings.prefix)
    if "no permissions to" not in words:
        return ""
    if "to run" in words:
        return f"+{right}"
    if "channel" in words:
        return f"&{prefix}:*"
    return f"~{{{prefix}:*" if any(str(word).startswith("b'{") for word in command) else f"~{prefix}:*"
