"""How many files may be open, as each socket is one: in the servers of this project that run here, or the shell's."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .. import kernel, processes
from ..findings import Problem, Row, skipped
from ..situation import Situation

RESERVED_FILES = 64  # of a worker, that are no sockets: as in loop/loop.py
USUAL_SOFT_LIMIT = 1024  # of a login, and of systemd's services
CALLED = {"uwsgi": "uWSGI", "gunicorn": "gunicorn", "runwsserver": "runwsserver"}

TITLES = {
    "wsredis.W551": "The hard limit of open files is below MAX_SOCKETS.",
    "wsredis.W552": "The soft limit of open files is below MAX_SOCKETS.",
    "wsredis.I553": "The soft limit of open files is low.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How many files a process may open; None: any number.

    whose: of which process. row: what names it. kind: of server, "" if none runs. place: "file:line", if it is set.
    """

    row: str
    whose: str
    soft: int | None
    hard: int | None
    kind: str = ""
    place: str = ""


def rows(situation: Situation) -> Iterator[Row]:
    """Look at each server that runs; where none does at what its configuration says, or at the shell's own limit."""
    max_sockets = situation.settings.max_sockets if situation.settings else None
    found = list(_running())
    yield from (each for each in found if isinstance(each, Row))
    limits = [each for each in found if isinstance(each, Limit)]
    given = _of_configuration(situation)
    for limit in [*limits, *given] or [_of_shell()]:
        yield _row(limit, max_sockets)


def _running() -> Iterator[Limit | Row]:
    """Yield the limit of each server of this project, and rows for those that may not be looked into."""
    from ..gunicorn.instances import is_of_this_project as is_our_gunicorn  # which import gevent: not for every command
    from ..uwsgi.instances import is_of_this_project as is_our_uwsgi

    ours = {"uwsgi": is_our_uwsgi, "gunicorn": is_our_gunicorn, "runwsserver": processes.is_our_command}
    for kind, is_ours in ours.items():
        servers, others = processes.open_to_us(kind, called=CALLED[kind])
        yield from (replace(row, checked=f"open files of {row.checked}") for row in others)
        for server in servers:
            if is_ours(server):
                yield _of_workers(server, kind) or skipped(f"open files of {server.name}", "its limit cannot be read")


def _of_workers(server: processes.Open, kind: str) -> Limit | None:
    """Return the lowest limit of a server's workers, which may not be that of its master; None if none is read."""
    found = [limit for pid in processes.workers_of(server.pid) if (limit := _read(pid))]
    if not found:
        return None
    soft, hard = (min((each for each in side if each is not None), default=None) for side in zip(*found, strict=True))
    row, whose = f"open files of {server.name}", f"{server.name}, which runs,"
    return Limit(row=row, whose=whose, soft=soft, hard=hard, kind=kind)


def _read(pid: int) -> tuple[int | None, int | None] | None:
    """Return the soft and the hard limit of a process."""
    match = re.search(r"^Max open files\s+(\w+)\s+(\w+)", kernel.text(f"{pid}/limits"), re.M)
    if match is None:
        return None
    soft, hard = (int(word) if word.isdecimal() else None for word in match.groups())  # "unlimited"
    return soft, hard


def _of_configuration(situation: Situation) -> list[Limit]:
    """Return what the given file of uWSGI says, which sets both limits."""
    if situation.uwsgi_conf is None:
        return []
    from ..uwsgi.reading import read_file

    option = (conf := read_file(situation.uwsgi_conf)).get("max-fd")
    number = conf.number("max-fd", 0)
    if option is None or number <= 0:
        return []
    name = situation.uwsgi_conf.name
    row, whose = f"open files of {name}", f"uWSGI with max-fd of {name}"
    return [Limit(row=row, whose=whose, soft=number, hard=number, kind="uwsgi", place=option.place)]


def _of_shell() -> Limit:
    soft, hard = (
        most if most != resource.RLIM_INFINITY else None for most in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    return Limit(row="open files", whose="A server that is started from this shell", soft=soft, hard=hard)


def _row(limit: Limit, max_sockets: int | None) -> Row:
    """Compare a limit with what a worker may need."""
    needed = (max_sockets or 0) + RESERVED_FILES
    found = (
        f"soft limit {_number(limit.soft)}, hard limit {_number(limit.hard)}; "
        f"MAX_SOCKETS {_number(max_sockets, 'not set')}"
    )
    if not limit.kind:
        found += "; of this shell, as no server of this project is seen to run here"
    id, text = "", ""
    if max_sockets and limit.hard is not None and limit.hard < needed:
        id = "wsredis.W551"
        text = (
            f"{limit.whose} may open {limit.hard:,} files (hard limit), and MAX_SOCKETS is {max_sockets:,}: "
            f"a worker that has {max(0, limit.hard - RESERVED_FILES):,} sockets can take no more."
        )
    elif max_sockets and limit.soft is not None and limit.soft < needed:
        id = "wsredis.W552"
        text = (
            f"{limit.whose} may open {limit.soft:,} files (soft limit), and MAX_SOCKETS is {max_sockets:,}. "
            "runwsserver raises it as far as the hard limit; uWSGI and gunicorn do not."
        )
    elif not max_sockets and limit.soft is not None and limit.soft <= USUAL_SOFT_LIMIT:
        id = "wsredis.I553"
        text = (
            f"{limit.whose} may open {limit.soft:,} files (soft limit): a worker of uWSGI or gunicorn takes "
            f"{max(0, limit.soft - RESERVED_FILES):,} sockets. runwsserver raises it as far as the hard limit."
        )
    problem = Problem(id=id, text=text, hint=_hint(limit, needed), place=limit.place) if id else None
    return Row(checked=limit.row, found=found, problems=(problem,) if problem else ())


def _hint(limit: Limit, needed: int) -> str:
    enough = max(20_000, -(-needed // 1000) * 1000)
    max_fd = f"In uWSGI's file, if root starts it: max-fd = {enough}\n" if limit.kind in ("uwsgi", "") else ""
    if limit.place:
        return max_fd.rstrip()
    return (
        f"{max_fd}In the server's systemd unit: LimitNOFILE={enough}\n"
        f"In a container: docker run --ulimit nofile={enough}\nIn the shell that starts it: ulimit -n {enough}"
    )


def _number(number: int | None, none: str = "none") -> str:
    return none if number is None else f"{number:,}"
