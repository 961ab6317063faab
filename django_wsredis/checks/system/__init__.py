"""The machine: open files, memory, versions. Needs no network, no other program, and no settings that are right."""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import Row
from ..situation import Situation
from . import limits, versions

TITLES: dict[str, str] = {**limits.TITLES, **versions.TITLES}


def look(situation: Situation) -> Iterator[Row]:
    """Look at what this machine allows, and at what is installed."""
    max_sockets = situation.settings.max_sockets if situation.settings else None
    yield limits.open_files(max_sockets)
    yield limits.backlog()
    yield limits.ports()
    yield limits.memory(max_sockets)
    yield from versions.look()
