"""The machine: open files, memory, versions. Needs no network, no other program, and no settings that are right."""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import Row
from ..situation import Situation
from . import files, limits, memory, versions

TITLES: dict[str, str] = {**files.TITLES, **limits.TITLES, **memory.TITLES, **versions.TITLES}


def look(situation: Situation) -> Iterator[Row]:
    """Look at what this machine allows, and at what is installed."""
    yield from files.rows(situation)
    yield limits.backlog()
    yield limits.ports()
    yield memory.row(situation.settings.max_sockets if situation.settings else None)
    yield from versions.look()
