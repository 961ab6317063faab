"""Limits by which Redis ends connections, or refuses new ones."""

from __future__ import annotations

import os

from ... import redis
from ...control import workers_name
from ...exceptions import BrokerUnavailable
from ...wording import of_them
from ..findings import Problem
from .master import Found, Master, NotSeen

MIB = 1024 * 1024
CONNECTIONS = 17  # of a worker: its link, and one for each thread of views that publishes (hosts/threaded.py: 16)

TITLES = {
    "wsredis.E114": "A single message can end a worker's connection: client-output-buffer-limit pubsub is too small.",
    "wsredis.W115": "A burst can end a worker's connection: client-output-buffer-limit pubsub is small.",
    "wsredis.W118": "maxclients leaves too few connections for the workers.",
    "wsredis.W119": "Redis closes connections that are idle for a short time.",
}


def buffer(master: Master) -> Found:
    """Look at how much may wait for a worker that does not read for a moment: Redis cuts it off beyond."""
    words = master.config("client-output-buffer-limit").split()
    if "pubsub" not in words:
        raise NotSeen("CONFIG GET client-output-buffer-limit tells nothing of pubsub")
    place = words.index("pubsub")
    hard, soft, seconds = map(int, words[place + 1 : place + 4])
    found = f"pubsub {_size(hard)}, or {_size(soft)} for {seconds} s"
    message, outbox = master.settings.max_message_bytes, master.settings.max_outbox_bytes
    if 0 < hard < message:
        id, what = "wsredis.E114", f"one message of MAX_MESSAGE_BYTES ({_size(message)})"
    elif min(hard or outbox, soft or outbox) < outbox:
        id, what = "wsredis.W115", f"a burst as large as MAX_OUTBOX_BYTES ({_size(outbox)})"
    else:
        return found, ()
    enough = max(message, outbox)
    line = f"pubsub {max(32 * MIB, 4 * enough)} {max(8 * MIB, enough)} 60"
    problem = Problem(
        id=id,
        text=f"client-output-buffer-limit of {master.address} is {found}: {what} ends a worker's connection, and what "
        "is not kept is lost.",
        hint=f"In redis.conf: client-output-buffer-limit {line}\n"
        f'At once, in redis-cli on that server: CONFIG SET client-output-buffer-limit "{line}"',
    )
    return found, (problem,)


def _size(size: int) -> str:
    if size == 0:
        return "any size"
    return f"{size / MIB:.3g} MiB" if size >= MIB else f"{size:,} bytes"


def clients(master: Master) -> Found:
    """Look at how many more may connect: a reload needs once more what the workers have."""
    used = int(master.info["connected_clients"])
    most = int(master.info.get("maxclients") or master.config("maxclients"))
    announced = len(living_workers(master))
    workers = announced or os.cpu_count() or 1
    needed = workers * CONNECTIONS
    runs = of_them(workers, "worker, which runs", "workers, which run")
    found = f"{used} of {most:,}; {runs if announced else of_them(workers, 'worker') + ', one for each core'}"
    if most - used >= needed:
        return found, ()
    enough = max(10_000, used + 4 * needed)
    problem = Problem(
        id="wsredis.W118",
        text=f"maxclients of {master.address} is {most:,}, and {of_them(used, 'client is', 'clients are')} connected: "
        f"{of_them(workers, 'worker that starts needs', 'workers that start need')} up to {needed}.",
        hint=f"In redis.conf: maxclients {enough}. At once: redis-cli CONFIG SET maxclients {enough}",
    )
    return found, (problem,)


def living_workers(master: Master) -> list[bytes]:
    """Return the announcements of the workers that live; none if that cannot be asked."""
    if "+zrange" in master.lacks or "+time" in master.lacks:
        return []
    now = int(master.call("TIME")[0])
    try:  # in a cluster another master may have the list
        (workers,) = redis.execute([("ZRANGE", workers_name(master.settings.prefix), now, "+inf", "BYSCORE")])
    except BrokerUnavailable:
        return []
    return list(workers)


def timeout(master: Master) -> Found:
    """Look at after which silence Redis closes a connection; not that of a subscriber."""
    seconds = int(master.config("timeout"))
    found = f"{seconds} s" if seconds else "never"
    if not 0 < seconds < master.settings.ping_interval:
        return found, ()
    problem = Problem(
        id="wsredis.W119",
        text=f"{master.address} closes connections that are silent for {seconds} s: those by which views publish are "
        "opened anew each time, and what is sent at that moment may fail.",
        hint="In redis.conf: timeout 0\nAt once, in redis-cli on that server: CONFIG SET timeout 0",
    )
    return found, (problem,)
