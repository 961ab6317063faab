"""The rights of Redis' user: each command that we use is tried, on a name that nobody has, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from secrets import token_hex
from typing import NamedTuple, TypeAlias

from ... import redis_errors
from ...channels import AUDIENCES, Channel, escape, everywhere_name, redis_name
from ...commands import Command, key_name
from ...control import canary_name, reply_name, workers_name
from ...exceptions import BrokerUnavailable
from ...inspection.servers import CLIENT_NAME
from ..findings import Problem
from .master import Found, Master

Trials: TypeAlias = tuple[tuple[str, Command], ...]  # rights, and a command that needs each

LIVES_SECONDS = 60  # for which a list lives if it could not be removed

TITLES = {
    "wsredis.E112": "Redis' user lacks a right that we need.",
    "wsredis.I113": "Redis' user lacks a right that wsinspect needs.",
    "wsredis.E129": "Redis does not know a command that we need.",
}


class Refused(NamedTuple):
    """What is refused, each once: rights that the user lacks, and commands that the server does not know.

    rights: as an ACL has them, "+xadd" or "~wsredis:*". unknown: "BLPOP". example: the first that lacks a name's right.
    """

    rights: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    example: str = ""

    def allows(self, right: str) -> bool:
        """Tell whether a command, such as "xinfo|stream", is not among it."""
        return f"+{right}" not in self.rights and _shown_right(right) not in self.unknown


def rights(master: Master) -> Found:
    """Try what workers and publishers need: docs/protocol.rst lists it."""
    tried = _trials(master.scratch, is_sharded=master.is_sharded)
    refused = _refused(master, tried)
    if refused.allows("sunsubscribe" if master.is_sharded else "unsubscribe"):  # else we would go on to hear
        tried += _names(master)
    if refused.allows("expire"):  # else what is pushed would stay
        tried += _pushing(master.scratch)
    refused = _refused(master, tried)
    master.lacks = (*refused.rights, *refused.unknown)
    found = f"{len({right for right, _ in tried})} commands tried, as the user {master.user}"
    problems = []
    if refused.rights:
        found += f": missing {' '.join(refused.rights)}"
        problems.append(lacking(master.address, master.user, refused.rights, refused.example))
    if refused.unknown:
        found += f": unknown {', '.join(refused.unknown)}"
        problems.append(_unknown(master.address, refused.unknown))
    return found if problems else f"{found}: all allowed", tuple(problems)


def lacking(where: str, user: str, rights: Iterable[str], example: str = "") -> Problem:
    """Return the problem of a user who lacks rights, such as "+xadd" and "~wsredis:*".

    example: a command that was refused for its name, such as "SUBSCRIBE wsredis:everywhere".
    """
    listed = " ".join(rights)
    such_as = f", such as {example}" if example else ""
    return Problem(
        id="wsredis.E112",
        text=f"The Redis at {where} refuses what we need{such_as}; its user {user} lacks: {listed}",
        hint=f"In redis-cli, on each server: ACL SETUSER {user} {listed}\nThen ACL SAVE, or write it into redis.conf.",
    )


def _unknown(where: str, commands: Iterable[str]) -> Problem:
    listed = ", ".join(commands)
    return Problem(
        id="wsredis.E129",
        text=f"The Redis at {where} does not know commands that we need: {listed}",
        hint="If its redis.conf has rename-command for them, remove that, and restart it. Else it is a proxy, or a "
        "service, that has no such commands: name another Redis in WSREDIS['URL'].",
    )


def rights_to_inspect(master: Master) -> Found:
    """Try what only wsinspect, and this command, need."""
    tried: Trials = (
        ("info", ("INFO",)),
        ("scan", ("SCAN", 0, "MATCH", master.scratch, "COUNT", 1)),
        ("pttl", ("PTTL", master.scratch)),
        ("config|get", ("CONFIG", "GET", "timeout")),
    )
    refused = _refused(master, tried)
    unknown = f"unknown: {', '.join(refused.unknown)}" if refused.unknown else ""  # as where others run Redis
    missing = [right for right in refused.rights if right not in master.lacks]
    if not missing:
        return unknown or "all allowed", ()
    listed = " ".join(missing)
    problem = Problem(
        id="wsredis.I113",
        text=f"wsinspect and wscheck do not see all of {master.address}: its user {master.user} lacks: {listed}",
        hint=f"If they are to: ACL SETUSER {master.user} {listed}",
    )
    return "; ".join(filter(None, (f"missing: {listed}", unknown))), (problem,)


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


def _names(master: Master) -> Trials:
    """Return commands that try each form of our names, and change nothing.

    In a cluster most are of other masters: a right is asked for before they are looked for elsewhere.
    """
    prefix, nobody = master.settings.prefix, f"-/wscheck/{token_hex(8)}"
    channels = [redis_name(prefix, Channel(one, "" if one == "broadcast" else "-", nobody)) for one in AUDIENCES]
    everywhere, canary = everywhere_name(prefix), canary_name(prefix, nobody)
    keys = [*channels, everywhere, workers_name(prefix), reply_name(prefix)]
    keys += [key_name(name, b"wscheck") for name in channels]
    s = "s" if master.is_sharded else ""
    # nothing is published on `everywhere`, as wsinspect --tail would show it: who may listen there may also publish
    publish = [(f"{s}publish", (f"{s}publish".upper(), name, "")) for name in (*channels, canary)]
    subscribe = [
        (f"{s}{verb}", (f"{s}{verb}".upper(), name))
        for name in (*channels, canary, everywhere)
        for verb in ("subscribe", "unsubscribe")
    ]
    # a script is asked for the rights to read and to write its keys, whatever it does
    return (*publish, *subscribe, *(("eval", ("EVAL", "return 1", 1, key)) for key in keys))


def _pushing(name: bytes) -> Trials:
    """Return those for a list, which is there for a moment: they go out together."""
    return (
        ("rpush", ("RPUSH", name, "")),
        ("expire", ("EXPIRE", name, LIVES_SECONDS)),
        ("blpop", ("BLPOP", name, "0.01")),
        ("expire", ("EXPIRE", name, 0)),  # if it was not taken
    )


def _refused(master: Master, tried: Trials) -> Refused:
    """Return what is refused of it. Raises BrokerUnavailable if Redis does not answer."""
    replies = master.replies([command for _, command in tried])
    rights, unknown, example = dict[str, None](), dict[str, None](), ""
    for (right, command), reply in zip(tried, replies, strict=True):
        words = redis_errors.refusal(reply).lower() if isinstance(reply, BrokerUnavailable) else ""
        if words.startswith(("unknown command", "unknown subcommand")):
            unknown[_shown_right(right)] = None
        elif lacks := _named(master, right, command, words):
            rights[lacks] = None
            if not example and not lacks.startswith("+"):
                example = _shown(command)
    return Refused(tuple(rights), tuple(unknown), example)


def _shown_right(right: str) -> str:
    return right.replace("|", " ").upper()


def _shown(command: Command) -> str:
    """Return a command and the name that it is about."""
    name = next(word for word in command if isinstance(word, bytes))
    return f"{command[0]!s} {name.decode()}"


def _named(master: Master, right: str, command: Command, words: str) -> str:
    """Return the right that Redis' words say is missing; "" if it refused for another reason.

    words: in lower case, of Redis 6.2, or 7: "no permissions to run", "to access a key", "… one of the channels".
    """
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
