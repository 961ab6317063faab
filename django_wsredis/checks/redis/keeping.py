"""Whether what is kept stays: memory, and what survives a restart."""

from __future__ import annotations

from ... import embedded
from ...conf import Settings
from ...inspection.servers import persistence
from ..findings import Problem
from .limits import MIB
from .master import Found, Master, NotSeen

FULL = 0.9  # of maxmemory

TITLES = {
    "wsredis.W116": "Redis evicts what is kept when its memory is full.",
    "wsredis.W117": "Redis' memory is nearly full.",
    "wsredis.W123": "What is kept does not survive a restart of Redis.",
}


def _keepers(settings: Settings) -> str:
    """Return the settings by which messages are kept; "" if none are."""
    return " and ".join(name for name in ("HISTORY", "EXPIRE") if getattr(settings, name.lower()))


def memory(master: Master) -> Found:
    """Look at what happens when memory is full."""
    most, used = int(master.info.get("maxmemory", 0)), int(master.info["used_memory"])
    if not most:
        return f"{used / MIB:.1f} MiB, without a limit", ()
    policy = master.info.get("maxmemory_policy") or master.config("maxmemory-policy")
    found = f"{used / MIB:.1f} of {most / MIB:.1f} MiB, {policy}"
    problems = []
    if policy != "noeviction" and (keepers := _keepers(master.settings)):
        problem = Problem(
            id="wsredis.W116",
            text=f"maxmemory-policy of {master.address} is {policy}: when its memory is full it removes streams that "
            f"{keepers} {'keep' if ' and ' in keepers else 'keeps'}.",
            hint="In redis.conf: maxmemory-policy noeviction\n"
            "At once, in redis-cli on that server: CONFIG SET maxmemory-policy noeviction"
            "\nFor a cache take another Redis.",
        )
        problems.append(problem)
    if policy == "noeviction" and used > FULL * most:
        problem = Problem(
            id="wsredis.W117",
            text=f"{master.address} uses {used / MIB:.1f} of {most / MIB:.1f} MiB: when that is full it refuses what "
            "is to be kept.",
            hint=f"In redis.conf: maxmemory {2 * most}\nSee what needs it: redis-cli --bigkeys",
        )
        problems.append(problem)
    return found, tuple(problems)


def saved(master: Master) -> Found:
    """Look at what Redis writes to its disk."""
    found = persistence(master, master.info)
    if found is None:
        raise NotSeen("CONFIG GET save is refused")
    keepers = _keepers(master.settings)
    if found != "none" or not keepers or embedded.is_embedded(master.settings.url):
        return found, ()
    problem = Problem(
        id="wsredis.W123",
        text=f"{master.address} saves nothing: a restart loses what {keepers} kept, and who comes back is told of "
        "gaps.",
        hint="In redis.conf: appendonly yes\nAt once, in redis-cli on that server: CONFIG SET appendonly yes",
    )
    return found, (problem,)
