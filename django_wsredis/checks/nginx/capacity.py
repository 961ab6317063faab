"""How many websockets fit into NGiNX: two connections for each, the browser's and the site's."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...conf import Settings
from ...wording import of_them
from ..findings import Problem, Row, skipped
from .reading import Configuration, Directive
from .running import Workers

TITLES = {
    "wsredis.W226": "worker_connections is less than two for each websocket.",
    "wsredis.I227": "worker_connections is small.",
    "wsredis.W228": "NGiNX may not open as many files as worker_connections says.",
    "wsredis.W229": "NGiNX may open less than two files for each websocket.",
}
USUAL_CONNECTIONS = 512
SMALL = 1024  # connections; Debian's file has 768
FOR_PAGES = 100  # connections beside those of websockets
USUAL_FILES = 1024  # of a service of systemd, and of a shell


def look(configuration: Configuration, settings: Settings, workers: Workers | None) -> Iterator[Row]:
    """Compare with MAX_SOCKETS, and with how many files may be open."""
    if not configuration.is_whole:
        yield skipped("worker_connections", f"{configuration.path} is a site's file: give the main one, as nginx.conf")
        return
    main = configuration.main
    if configuration.is_copy and _is_auto(main):
        why = "worker_processes is auto, and how many processors NGiNX' machine has is not known"
        yield skipped("worker_connections", why)
        return
    events = next(iter(main.all("events")), main)
    connections, directive = _number(events, "worker_connections", USUAL_CONNECTIONS)
    top = f"{configuration.path}:1"
    yield _connections(main, connections, directive, settings.max_sockets, events.place or top)
    yield _files(main, connections, settings.max_sockets, workers, top)


def _number(block: Directive, name: str, usual: int) -> tuple[int, Directive | None]:
    """Return a directive's number, and the directive; what is usual, and None, where it is not written."""
    found = [directive for directive in block.all(name) if directive.args and directive.args[0].isdecimal()]
    return (int(found[-1].args[0]), found[-1]) if found else (usual, None)


def _processes(main: Directive) -> tuple[int, str]:
    """Return how many workers NGiNX has, and that for people; `auto` is one for each processor."""
    is_auto = _is_auto(main)
    count = (os.cpu_count() or 1) if is_auto else max(1, _number(main, "worker_processes", 1)[0])
    return count, of_them(count, "worker") + (" (auto)" if is_auto else "")


def _is_auto(main: Directive) -> bool:
    """Tell whether there is a worker for each processor."""
    return any(found.args == ("auto",) for found in main.all("worker_processes"))


def _connections(
    main: Directive, connections: int, directive: Directive | None, max_sockets: int | None, place: str
) -> Row:
    """See whether there is room. place: where worker_connections is to be, if it is not written."""
    processes, shown = _processes(main)
    room = connections * processes // 2
    found = f"{connections}{'' if directive else ', by default'}; × {shown}, so {room} websockets"
    text = f"There is room for {room} websockets, less what pages need; more get no answer."
    id, wanted = "wsredis.I227", 10_000
    if max_sockets is not None:
        text += f" One worker of the site may have MAX_SOCKETS, {max_sockets}."
        id, wanted = "wsredis.W226", -(-2 * max_sockets // processes)
    if (connections >= SMALL) if max_sockets is None else (room >= max_sockets):
        return Row(checked="worker_connections", found=found)
    hint = f"worker_rlimit_nofile {2 * (wanted + FOR_PAGES)};\nevents {{ worker_connections {wanted + FOR_PAGES}; }}"
    problem = Problem(id=id, text=text, hint=hint, place=directive.place if directive else place)
    return Row(checked="worker_connections", found=found, problems=(problem,))


def _files(main: Directive, connections: int, max_sockets: int | None, workers: Workers | None, place: str) -> Row:
    """See whether as many files may be open. place: where worker_rlimit_nofile is to be, if it is not written."""
    limit, directive = _number(main, "worker_rlimit_nofile", USUAL_FILES)
    told = str(limit)
    if directive is None and workers is not None and workers.max_files is not None:
        limit, told = workers.max_files, f"{workers.max_files}, of the NGiNX that runs"
    elif directive is None:
        told = f"not set; {USUAL_FILES} where a service has no other limit"
    processes, shown = _processes(main)
    room = limit * processes // 2
    found = f"{told}; × {shown}, so {room} websockets"
    place = directive.place if directive else place
    problem: Problem | None = None
    if max_sockets is not None and room < max_sockets:
        problem = Problem(
            id="wsredis.W229",
            text=f"The limit of open files is {told}: there are two for each of {room} websockets, less what pages "
            f"need; more get 500, or none. One worker of the site may have MAX_SOCKETS, {max_sockets}.",
            hint=f"worker_rlimit_nofile {2 * (-(-2 * max_sockets // processes) + FOR_PAGES)};",
            place=place,
        )
    elif limit < connections:
        problem = Problem(
            id="wsredis.W228",
            text=f"worker_connections is {connections}, and the limit of open files is {told}: more get 500, or none.",
            hint=f"worker_rlimit_nofile {2 * connections};",
            place=place,
        )
    return Row(checked="worker_rlimit_nofile", found=found, problems=(problem,) if problem else ())
