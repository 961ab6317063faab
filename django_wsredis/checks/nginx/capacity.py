"""How many websockets fit into NGiNX: two connections for each, the browser's and the site's."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...conf import Settings
from ..findings import Problem, Row, skipped
from .configuration import Configuration, Directive
from .running import Running

TITLES = {
    "wsredis.W226": "worker_connections is less than two for each websocket.",
    "wsredis.I227": "worker_connections is small.",
    "wsredis.W228": "NGiNX may not open as many files as worker_connections says.",
}
USUAL_CONNECTIONS = 512
SMALL = 1024  # connections; Debian's file has 768
USUAL_FILES = 1024  # of a service of systemd, and of a shell


def look(configuration: Configuration, settings: Settings, running: Running | None) -> Iterator[Row]:
    """Compare with MAX_SOCKETS, and with how many files may be open."""
    if not configuration.is_whole:
        yield skipped("worker_connections", f"{configuration.path} is a site's file: give the main one, as nginx.conf")
        return
    events = next(iter(configuration.main.all("events")), configuration.main)
    connections, directive = _number(events, "worker_connections", USUAL_CONNECTIONS)
    processes, is_counted = _processes(configuration.main)
    yield _connections(connections, directive, processes, is_counted, settings)
    yield _files(configuration.main, connections, running)


def _number(block: Directive, name: str, usual: int) -> tuple[int, Directive | None]:
    found = [directive for directive in block.all(name) if directive.args and directive.args[0].isdigit()]
    return (int(found[-1].args[0]), found[-1]) if found else (usual, None)


def _processes(main: Directive) -> tuple[int, bool]:
    """Return how many workers NGiNX has, and whether that is written; `auto` is one for each processor."""
    count, directive = _number(main, "worker_processes", 1)
    if directive is None and any(found.args == ("auto",) for found in main.all("worker_processes")):
        return os.cpu_count() or 1, False
    return count, True


def _connections(
    connections: int, directive: Directive | None, processes: int, is_counted: bool, settings: Settings
) -> Row:
    room = connections * processes // 2
    found = f"{connections}{'' if directive else ', by default'}; × {processes} worker{'s'[: processes != 1]}"
    found += f"{'' if is_counted else ' (auto)'}, so {room} websockets"
    wanted = settings.max_sockets
    if wanted is not None and room < wanted:
        text = f"There is room for {room} websockets, and one worker of the site may have MAX_SOCKETS, {wanted}: the"
        problem = Problem(
            id="wsredis.W226",
            text=f"{text} others get no answer.",
            hint=_hint(-(-2 * wanted // processes)),
            place=directive.place if directive else "",
        )
        return Row(checked="worker_connections", found=found, problems=(problem,))
    if wanted is not None or connections >= SMALL:
        return Row(checked="worker_connections", found=found)
    text = f"There is room for {room} websockets, less what pages need; more get no answer."
    place = directive.place if directive else ""
    problem = Problem(id="wsredis.I227", text=text, hint=_hint(10_000), place=place)
    return Row(checked="worker_connections", found=found, problems=(problem,))


def _hint(connections: int) -> str:
    connections += 100  # for pages
    return f"worker_rlimit_nofile {2 * connections};\nevents {{ worker_connections {connections}; }}"


def _files(main: Directive, connections: int, running: Running | None) -> Row:
    limit, directive = _number(main, "worker_rlimit_nofile", USUAL_FILES)
    where = f"{limit}"
    if directive is None:
        if running is not None and running.max_files is not None:
            limit, where = running.max_files, f"{running.max_files}, of the NGiNX that runs"
        else:
            where = f"not set; {USUAL_FILES} where a service has no other limit"
    if limit >= connections:
        return Row(checked="worker_rlimit_nofile", found=where)
    text = f"worker_connections is {connections}, and the limit of open files is {where}: more get 500, or no answer."
    problem = Problem(
        id="wsredis.W228",
        text=text,
        hint=f"worker_rlimit_nofile {2 * connections};",
        place=directive.place if directive else "",
    )
    return Row(checked="worker_rlimit_nofile", found=where, problems=(problem,))
