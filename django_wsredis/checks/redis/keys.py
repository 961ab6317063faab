"""Who else uses our PREFIX: keys that are not ours, workers of another project, and listeners."""

from __future__ import annotations

import time
from collections.abc import Iterator

from django.conf import settings as django_settings

from ... import redis_errors
from ...channels import escape, everywhere_name, read_redis_name
from ...commands import Command
from ...control import read_workers, workers_name
from ...exceptions import BrokerUnavailable
from ...introduction import project
from ...wording import of_them
from ..findings import Problem
from .limits import living_workers
from .master import Found, Master, NotSeen

MOST_SECONDS = 0.5
STEP_KEYS = 500  # that Redis looks at before it serves others
MOST_NAMED = 3

TITLES = {
    "wsredis.E125": "Something else has the name of a channel of ours.",
    "wsredis.W126": "Another application has keys below our PREFIX.",
    "wsredis.I128": "More hear our channels than this site has workers.",
    "wsredis.W130": "Workers of another project have our PREFIX.",
}


def keys(master: Master) -> Found:
    """Look through the keys below the PREFIX, for a while."""
    prefix = master.settings.prefix
    seen, taken, foreign, is_all = set[bytes](), list[bytes](), list[bytes](), False
    for names in _scanned(master):
        is_all = names is None
        fresh = set(names or ()) - seen
        seen |= fresh
        fresh = {name for name in fresh if not name.startswith(_replies(prefix))}
        ours = {name: command for name in fresh if (command := _reading(prefix, name))}
        foreign += fresh - ours.keys()
        taken += _of_wrong_type(master, ours)
    found = f"{of_them(len(seen), 'key')} below {prefix}:" + ("" if is_all else f" seen in {MOST_SECONDS} s, not all")
    problems = []
    if taken:
        problem = Problem(
            id="wsredis.E125",
            text=f"On {master.address} keys of another type have names of ours: {_named(taken)}. Nothing can be kept "
            "there.",
            hint=f"{_another(prefix)}\nOr, if nobody needs them: redis-cli DEL {taken[0].decode(errors='replace')}",
        )
        problems.append(problem)
    if foreign:
        problem = Problem(
            id="wsredis.W126",
            text=f"On {master.address} keys below {prefix}: are not ours: {_named(foreign)}.",
            hint=f"{_another(prefix)}, before one of them has a name that we need.",
        )
        problems.append(problem)
    return found, tuple(problems)


def _scanned(master: Master) -> Iterator[list[bytes] | None]:
    """Yield names, and None if these were all."""
    cursor, until = b"0", time.monotonic() + MOST_SECONDS
    while time.monotonic() < until:
        try:
            cursor, names = master.call(
                "SCAN", cursor, "MATCH", f"{escape(master.settings.prefix)}:*", "COUNT", STEP_KEYS
            )
        except BrokerUnavailable as error:
            if refused := redis_errors.refusal(error):
                raise NotSeen(f"SCAN is refused: {refused}") from error
            raise
        yield names
        if cursor == b"0":
            yield None
            return


def _replies(prefix: str) -> bytes:
    return f"{escape(prefix)}:reply:".encode()


def _reading(prefix: str, name: bytes) -> Command | None:
    """Return a command that only a key of the right type answers; None for a name that is none of ours."""
    if name == workers_name(prefix):
        return ("ZRANGE", name, 0, 0)
    return ("XLEN", name) if name == everywhere_name(prefix) or read_redis_name(prefix, name) else None


def _of_wrong_type(master: Master, reading: dict[bytes, Command]) -> Iterator[bytes]:
    for name, reply in zip(reading, master.replies(list(reading.values())), strict=True):
        if isinstance(reply, BrokerUnavailable) and "wrong kind of value" in redis_errors.refusal(reply):
            yield name


def listeners(master: Master) -> Found:
    """Look whether others hear what every worker hears: another database of the same Redis has the same channels."""
    if master.is_sharded:  # then others are among the workers, too
        raise NotSeen("a cluster has one database, so those who share the PREFIX cannot be told apart")
    name = everywhere_name(master.settings.prefix)
    try:
        reply = master.call("PUBSUB", "NUMSUB", name)
    except BrokerUnavailable as error:
        if refused := redis_errors.refusal(error):
            raise NotSeen(f"PUBSUB NUMSUB is refused: {refused}") from error
        raise
    number, workers = int(reply[name] if isinstance(reply, dict) else reply[1]), len(living_workers(master))
    found = f"{of_them(number, 'hears', 'hear')} {name.decode()}; {of_them(workers, 'worker lives', 'workers live')}"
    if number <= workers:
        return found, ()
    problem = Problem(
        id="wsredis.I128",
        text=f"Listeners of {name.decode()}: {number}; workers of this site: {workers}. Another site may have the same "
        "PREFIX, and get what is published here; another database does not separate them.",
        hint=f"If it is a site: there {_another(master.settings.prefix)}. (wsinspect --tail is one more, too.)",
    )
    return found, (problem,)


def projects(master: Master) -> Found:
    """Look whether the workers that live are all of this project. In a cluster each master is told the same."""
    if {"+zrange", "+time"} & {*master.lacks}:
        raise NotSeen("without the rights that are missing the workers are not known")
    workers = read_workers(living_workers(master))
    if not workers:
        return "no worker is announced", ()
    ours = {project(), *map(project, django_settings.SECRET_KEY_FALLBACKS)}  # they differ while the key is changed
    silent = [worker for worker in workers if not worker.project]  # of an older version, or without a SECRET_KEY
    others = [worker for worker in workers if worker.project and worker.project not in ours]
    found = f"{of_them(len(workers) - len(silent) - len(others), 'worker')} of this one"
    found += f", {len(others)} of another" if others else ""
    found += f", {len(silent)} that {'do' if len(silent) > 1 else 'does'} not say of which" if silent else ""
    if not others:
        return found, ()
    prefix = master.settings.prefix
    named = _named([f"{worker.host}:{worker.pid} ({worker.server})".encode() for worker in others])
    problem = Problem(
        id="wsredis.W130",
        text=f"Workers with another SECRET_KEY have this Redis and the PREFIX {prefix!r}, too: {named}. Each project "
        "gets what the other one publishes.",
        hint=f"In one of the two: {_another(prefix)}\n"
        "If they are of this project, let all have the same SECRET_KEY: without it they share no session.",
    )
    return found, (problem,)


def _another(prefix: str) -> str:
    """Return the line that sets another PREFIX."""
    return f'WSREDIS = {{"PREFIX": "{prefix}-2", …}}'


def _named(names: list[bytes]) -> str:
    shown = ", ".join(name.decode(errors="replace") for name in sorted(names)[:MOST_NAMED])
    return shown if len(names) <= MOST_NAMED else f"{shown} and {len(names) - MOST_NAMED:,} more"
