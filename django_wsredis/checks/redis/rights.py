"""The rights of Redis' user: each command that we use is tried, on a name that nobody has, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from ... import redis_errors
from ...channels import escape
from ...commands import Command, key_name
from ...exceptions import BrokerUnavailable
from ...inspection.servers import CLIENT_NAME
from ..findings import Problem
from .master import Found, Master

Trials: TypeAlias = tuple[tuple[str, Command], ...]  # rights, and a command that needs each

LIVES_SECONDS = 60  # for which a list lives if it could not be removed

TITLES = {
    "wsredis.E112": "Redis' user lacks a right that we need.",
    "wsredis.I113": "Redis' user lacks a right that wsinspect needs.",
}


def rights(master: Master) -> Found:
    """Try what workers and publishers need: docs/protocol.rst lists it."""
    tried = _trials(master.scratch, is_sharded=master.is_sharded)
    lacks = _missing(master, tried)
    if "+expire" not in lacks:  # else what is pushed would stay
        pushing = _pushing(master.scratch)
        lacks += [right for right in _missing(master, pushing) if right not in lacks]
        tried += pushing
    master.lacks = tuple(lacks)
    found = f"{len({right for right, _ in tried})} commands tried, as the user {master.user}"
    if not master.lacks:
        return f"{found}: all allowed", ()
    return f"{found}: missing {' '.join(master.lacks)}", (lacking(master.address, master.user, master.lacks),)


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
    tried: Trials = (
        ("info", ("INFO",)),
        ("scan", ("SCAN", 0, "MATCH", master.scratch, "COUNT", 1)),
        ("pttl", ("PTTL", master.scratch)),
        ("config|get", ("CONFIG", "GET", "timeout")),
    )
    missing = [right for right in _missing(master, tried) if right not in master.lacks]
    if not missing:
        return "all allowed", ()
    listed = " ".join(missing)
    problem = Problem(
        id="wsredis.I113",
        text=f"wsinspect and wscheck do not see all of {master.address}: its user {master.user} lacks: {listed}",
        hint=f"If they are to: ACL SETUSER {master.user} {listed}",
    )
    return f"missing: {listed}", (problem,)


def _trials(name: bytes, *, is_sharded: bool) -> Trials:
    """Return rights, and a command for each that changes nothing."""
    key = key_name(name, b"wscheck")
    here: Trials = (
        ("publish", ("PUBLISH", name, "")),
        ("subscribe", ("SUBSCRIBE", name)),
    )
    sharded: Trials = (
        ("cluster|slots", ("CLUSTER", "SLOTS")),
        ("asking", ("ASKING",)),
        ("spublish", ("SPUBLISH", name, "")),
        ("ssubscribe", ("SSUBSCRIBE", name)),
        ("sunsubscribe", ("SUNSUBSCRIBE", name)),
    )
    return (
        *(sharded if is_sharded else here),
        ("unsubscribe", ("UNSUBSCRIBE", name)),
        ("client|setname", ("CLIENT", "SETNAME", CLIENT_NAME)),
        ("eval", ("EVAL", "return 1", 1, name)),
        ("ping", ("PING",)),
        ("time", ("TIME",)),
        ("exists", ("EXISTS", key)),
        ("set", ("SET", key, "", "XX", "EX", 1)),
        ("expire", ("EXPIRE", name, LIVES_SECONDS)),
        ("xadd", ("XADD", name, "NOMKSTREAM", "*", "m", "")),
        ("xtrim", ("XTRIM", name, "MAXLEN", "=", 0)),
        ("xlen", ("XLEN", name)),
        ("xinfo|stream", ("XINFO", "STREAM", name)),
        ("xrange", ("XRANGE", name, "-", "+", "COUNT", 1)),
        ("xrevrange", ("XREVRANGE", name, "+", "-", "COUNT", 1)),
        ("zadd", ("ZADD", name, "XX", 0, "")),
        ("zrange", ("ZRANGE", name, 0, -1)),
        ("zremrangebyscore", ("ZREMRANGEBYSCORE", name, "-inf", 0)),
        ("zrem", ("ZREM", name, "")),
    )


def _pushing(name: bytes) -> Trials:
    """Return those for a list, which is there for a moment: they go out together."""
    return (
        ("rpush", ("RPUSH", name, "")),
        ("expire", ("EXPIRE", name, LIVES_SECONDS)),
        ("blpop", ("BLPOP", name, "0.01")),
        ("expire", ("EXPIRE", name, 0)),  # if it was not taken
    )


def _missing(master: Master, tried: Trials) -> list[str]:
    """Return the rights that are missing, each once. Raises BrokerUnavailable if Redis does not answer."""
    replies = master.replies([command for _, command in tried])
    missing = [
        _named(master, right, command, redis_errors.refusal(reply))
        for (right, command), reply in zip(tried, replies, strict=True)
        if isinstance(reply, BrokerUnavailable)
    ]
    return list(dict.fromkeys(filter(None, missing)))


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
    return (
        f"~{{{prefix}:*"
        if any(isinstance(word, bytes) and word.startswith(b"{") for word in command)
        else f"~{prefix}:*"
    )
