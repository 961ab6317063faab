"""Processes of servers that run on this machine, as /proc shows them. Nothing is executed here.

Who is root and asks a program of somebody else executes that one's code: only what is our own is open to a look.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from django.conf import settings as django_settings

from .findings import Row, skipped


@dataclass(frozen=True, slots=True)
class Running:
    """A process.

    uid: of its user. arguments: what follows the program's name; None if a title has taken their place. folder: its
    current one. program: the file that is run. Both are None if it is another user's, or may not be seen.
    """

    pid: int
    parent: int
    uid: int
    arguments: Sequence[str] | None
    folder: Path | None = None
    program: Path | None = None


class Open(NamedTuple):
    """A process of ours that may be looked into. name: how rows call it. The others are as in Running."""

    name: str
    arguments: Sequence[str]
    folder: Path
    program: Path | None


def running(name: str) -> Iterator[Running]:
    """Yield the processes of a program, without those that another of them has started; none where there is no /proc.

    It is known by its own name, by the script or module that its Python runs, or by a title.
    """
    found = [process for folder in Path("/proc").glob("[0-9]*") if (process := _read(folder, name))]
    pids = {process.pid for process in found}
    yield from (process for process in found if process.parent not in pids)


def open_to_us(name: str, *, called: str, option: str) -> tuple[list[Open], list[Row]]:
    """Return those that may be looked into, and rows for the others.

    called: the program, in rows. option: of wscheck, which names a configuration.
    """
    processes: list[Open] = []
    rows: list[Row] = []
    for process in running(name):
        row_name = f"{called} {process.pid}"
        if process.uid != os.geteuid():
            rows.append(_of_another(row_name, "it is run by", process.uid, option))
        elif process.folder is None:
            rows.append(skipped(row_name, f"it runs, and may not be looked into; give {option} PATH"))
        elif process.arguments is None:
            rows.append(skipped(row_name, f"it runs, and shows no command line but a title; give {option} PATH"))
        else:
            processes.append(Open(row_name, process.arguments, process.folder, process.program))
    return processes, rows


def closed(name: str, files: Iterable[Path | None], *, option: str, is_run: bool) -> Row | None:
    """Return a row if one of the files that were found, and are or name code, is another user's, and not root's.

    is_run: whether a server of ours runs them anyway: then it matters to root alone.
    """
    if is_run and os.geteuid():
        return None
    for file in filter(None, files):
        try:
            owner = file.stat().st_uid
        except OSError:  # it is not run, either
            continue
        if owner not in (0, os.geteuid()):
            return _of_another(name, f"{file} belongs to", owner, option)
    return None


def _of_another(name: str, why: str, uid: int, option: str) -> Row:
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return skipped(name, f"{why} the user {user}; run wscheck as that user, or give {option} PATH")


def is_ours(application: str) -> bool:
    """Tell whether `module:name`, or `module`, is of this project, and not of another one on the same machine."""
    package = (django_settings.WSGI_APPLICATION or "").partition(".")[0]
    return bool(package) and application.partition(":")[0].partition(".")[0] == package


def of_another_project(name: str, *, option: str) -> Row:
    """Return the row for what runs, and is not ours, as far as that can be read."""
    return skipped(name, f"it runs, but not this project; if it does, give {option} PATH")


def _read(folder: Path, name: str) -> Running | None:
    """Return a process if it is of that program. folder: its own in /proc."""
    try:
        words = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        command = (folder / "comm").read_text(errors="replace").strip()
        start = _start(words, name)
        # uWSGI's titles can be any: one word, where the kernel still knows the program's name
        is_title = words[0].startswith(f"{name}: ") or (command == name and len(words) == 1)
        if not words[0] or not (start or is_title):
            return None
        parent = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        uid = _uid((folder / "status").read_text(errors="replace"))
    except (OSError, ValueError, IndexError):  # it has ended meanwhile
        return None
    process = Running(int(folder.name), parent, uid, words[start:] if start else None)
    if uid != os.geteuid():
        return process
    try:
        program, current = (folder / "exe").readlink(), (folder / "cwd").readlink()
        # a set-user-ID program has our uid, and the arguments and the folder of whoever started it
        is_set = bool((folder / "exe").stat().st_mode & stat.S_ISUID)
        is_here = (folder / "cwd").samefile(current)  # not so in a container, nor where the folder was removed
    except OSError:
        return process
    if is_set or not is_here:
        return process
    if start and start > 1:  # Python is the program
        program = current / words[start - 1]
    return Running(process.pid, parent, uid, process.arguments, current, program)


def _start(words: Sequence[str], name: str) -> int:
    """Return where the arguments of a program begin; 0 if these words do not run it, or do not say so."""
    first = Path(words[0]).name
    if first == name:
        return 1
    if not first.startswith("python"):
        return 0
    for index, word in enumerate(words[1:], 1):
        if word == "-m":
            return index + 2 if words[index + 1 :][:1] == [name] else 0
        if not word.startswith("-"):
            return index + 1 if Path(word).name == name else 0
    return 0


def _uid(status: str) -> int:
    """Return the user of a process: one who is not us, if its real, effective, saved and other uid are not all ours."""
    line = next(line for line in status.splitlines() if line.startswith("Uid:"))
    uids = [int(word) for word in line.split()[1:]]
    return next((uid for uid in uids if uid != os.geteuid()), uids[0])
