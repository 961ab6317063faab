"""All areas that can be looked at, and the ids of all problems."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import ModuleType

from . import (
    apache,
    deployment,
    each_request,
    gunicorn,
    haproxy,
    live,
    looking,
    nginx,
    pairs,
    redis,
    settings,
    site,
    system,
    uwsgi,
    views,
)
from .findings import Problem, Row
from .situation import Situation

# area → its modules, in the order in which they are looked at; each has TITLES, of its problems, and look()
MODULES: dict[str, tuple[ModuleType, ...]] = {
    "settings": (settings, pairs, site, views, each_request, deployment),
    "redis": (redis,),
    "system": (system,),
    "uwsgi": (uwsgi,),
    "gunicorn": (gunicorn,),
    "nginx": (nginx,),
    "apache": (apache,),
    "haproxy": (haproxy,),
    "live": (live,),
}
# They run code of the project, or measure times: not beside others. The others may each wait for something that hangs.
ALONE = ("settings", "live")
TITLES: dict[str, str] = {
    id: title for modules in MODULES.values() for module in modules for id, title in module.TITLES.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """What was found in one area. skipped: how many problems are not told of."""

    name: str
    rows: list[Row]
    skipped: int = 0

    @property
    def is_seen(self) -> bool:
        """Whether anything could be looked at."""
        return not all(row.is_skipped for row in self.rows)

    @property
    def problems(self) -> list[Problem]:
        """All that is wrong."""
        return [problem for row in self.rows for problem in row.problems]


def titles_of(area: str) -> dict[str, str]:
    """Return what each id of an area means, by their numbers."""
    titles = [pair for module in MODULES[area] for pair in module.TITLES.items()]
    return dict(sorted(titles, key=lambda pair: pair[0].removeprefix("wsredis.")[1:]))


def look(
    situation: Situation,
    areas: Collection[str],
    skip: Collection[str] = (),
    on_row: Callable[[str, Row], None] = lambda name, row: None,
) -> Iterator[Area]:
    """Look at areas, and yield them in their order.

    skip: ids of problems that are not told of. on_row(area, row): something has been looked at; in any thread.
    """

    def rows_of(name: str) -> list[Row]:
        rows = []
        for row in looking.rows_of(MODULES[name], situation):
            on_row(name, row)
            rows.append(row)
        return rows

    with ThreadPoolExecutor(len(MODULES)) as pool:
        under_way = {name: pool.submit(rows_of, name) for name in MODULES if name in areas and name not in ALONE}
        for name in MODULES:
            if name not in areas:
                continue
            found = under_way[name].result() if name in under_way else rows_of(name)
            rows = [_without(row, skip) for row in found]
            if found:
                yield Area(name=name, rows=rows, skipped=_count(found) - _count(rows))


def _without(row: Row, skip: Collection[str]) -> Row:
    return replace(row, problems=tuple(problem for problem in row.problems if problem.id not in skip))


def _count(rows: list[Row]) -> int:
    return sum(len(row.problems) for row in rows)
