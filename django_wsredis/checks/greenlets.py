"""What of a project does not fit views that are greenlets: drivers that block, connections that are kept, asyncio.

It matters only where a server runs views in a Python that gevent has patched; elsewhere each has a thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.db import connections
from django.urls import URLResolver, get_resolver

from .findings import Problem, Row, skipped

# Since that version psycopg waits as gevent wants, if it is imported when `select` is patched (psycopg#688).
MIN_PSYCOPG = (3, 1, 14)
# drivers that wait in C, where gevent cannot switch → what to use instead; oracledb's thin mode is Python
BLOCKING = {
    "psycopg": "pip install -U 'psycopg>=3.1.14', which waits as gevent wants. Or ",
    "psycopg2": "pip install 'psycopg[binary]>=3.1.14', which Django prefers, and which waits as gevent wants. Or ",
    "MySQLdb": "",
    "cx_Oracle": "pip install oracledb, which Django prefers. Or ",
    "pyodbc": "",
}
MAX_NAMED = 5  # of views


@dataclass(frozen=True, slots=True, kw_only=True)
class Greenlets:
    """A server whose views are greenlets. setting, place: what makes them so. instead: how they would be threads."""

    setting: str
    instead: str
    place: str = ""


def patched_modules() -> tuple[list[str], list[str]]:
    """Return what the project's code has gevent patch, as far as it has been imported; and what it has not."""
    from ..hosts import patching  # gevent: not for every command

    patched = [name for name in patching.MODULES if patching.is_patched(name)]
    return patched, [name for name in patching.MODULES if name not in patched]


def rows(server: Greenlets, *, driver: str, kept: str, views: str) -> Iterator[Row]:
    """Look at what the project has. driver, kept, views: the ids of the problems of each."""
    databases: list[tuple[str, Any]] = []
    for alias in connections:
        try:
            databases.append((alias, connections[alias]))  # which does not connect
        except Exception as error:  # its driver is not installed here, or whatever its engine raises
            yield skipped("databases", f"DATABASES[{alias!r}] cannot be loaded here: {error}")
            break
    else:
        yield _drivers(server, databases, driver)
        yield _kept(server, databases, kept)
    yield _views(server, views)


def _drivers(server: Greenlets, databases: list[tuple[str, Any]], id: str) -> Row:
    named = {alias: _driver(database) for alias, database in databases}
    problems = tuple(
        Problem(
            id=id,
            text=f"DATABASES[{alias!r}] is reached by {name}, which waits in C: with {server.setting} one slow query "
            "holds up all greenlets of its worker, and its websockets.",
            hint=f"{BLOCKING[name]}{server.instead}",
            place=server.place,
        )
        for alias, database in databases
        if (name := named[alias]) in BLOCKING and not _waits_for_gevent(database)
    )
    found = ", ".join(f"{alias}: {name or 'none'}" for alias, name in named.items()) or "none"
    return Row(checked="database drivers", found=found, problems=problems)


def _driver(database: Any) -> str:
    """Return the name of the module that speaks with a database: `psycopg`, `sqlite3`; "" if there is none."""
    return str(getattr(getattr(database, "Database", None), "__name__", "")).partition(".")[0]


def _waits_for_gevent(database: Any) -> bool:
    match _driver(database):
        case "psycopg":
            return tuple(map(int, re.findall(r"\d+", str(database.Database.__version__))[:3])) >= MIN_PSYCOPG
        case "psycopg2":  # psycogreen may be called anywhere, in gunicorn's post_fork for one
            return find_spec("psycogreen") is not None
    return False


def _kept(server: Greenlets, databases: list[tuple[str, Any]], id: str) -> Row:
    ages = {alias: database.settings_dict["CONN_MAX_AGE"] for alias, database in databases}
    problems = tuple(
        Problem(
            id=id,
            text=f"DATABASES[{alias!r}] has CONN_MAX_AGE = {ages[alias]}: with {server.setting} a greenlet has a "
            "connection of its own, and leaves it open to nobody when it ends, until Python collects it.",
            hint=f'"CONN_MAX_AGE": 0, and a pool outside, such as PgBouncer. Or {server.instead}',
            place=server.place,
        )
        for alias, database in databases
        if ages[alias] != 0 and database.vendor != "sqlite"
    )
    found = ", ".join(f"{alias}: CONN_MAX_AGE {age}" for alias, age in ages.items()) or "none"
    return Row(checked="kept connections", found=found, problems=problems)


def _views(server: Greenlets, id: str) -> Row:
    try:
        names = sorted(set(_asynchronous(get_resolver().url_patterns)))
    except Exception as error:  # whatever the project's modules raise; Django's own check tells it
        return skipped("async views", f"ROOT_URLCONF cannot be used: {error}")
    if not names:
        return Row(checked="async views", found="none")
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    problem = Problem(
        id=id,
        text=f"{', '.join(names[:MAX_NAMED])}{more}: async, so Django starts asyncio's loop in the thread of all "
        f"greenlets, with {server.setting}. Others then take it for theirs: SynchronousOnlyOperation.",
        hint=f"Let them be ordinary functions. Or {server.instead}",
        place=server.place,
    )
    return Row(checked="async views", found=str(len(names)), problems=(problem,))


def _asynchronous(patterns: list[Any]) -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _asynchronous(pattern.url_patterns)
        elif iscoroutinefunction(pattern.callback):
            yield pattern.lookup_str
