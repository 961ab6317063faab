"""Processes of servers that run on this machine, as /proc shows them. Nothing is executed here.

Who is root and asks a program of somebody else executes that one's code: only what is our own is open to a look.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from django.conf import settings as django_settings

from . import kernel
from .findings import Row, skipped

DJANGO = ("manage.py", "django-admin", "django")  # the scripts, and the module, that run a command of ours


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
    pid: int
    arguments: Sequence[str]
    folder: Path
    program: Path | None


def running(name: str) -> Iterator[Running]:
    """Yield the processes of a program, without those that another of them has started; none where there is no /proc.

    It is known by its own name, by the script or module that its Python runs, by Django's command, or by a title.
    """
    found = [process for folder in kernel.PROC.glob("[0-9]*") if (process := _read(folder, name))]
    pids = {process.pid for process in found}
    yield from (process for process in found if process.parent not in pids)


def open_to_us(name: str, *, called: str, option: str = "") -> tuple[list[Open], list[Row]]:
    """Return those that may be looked into, and rows for the others.

    called: the program, in rows. option: of wscheck, which names a configuration; "" if none would help.
    """
    instead = f"; give {option} PATH" if option else ""
    processes: list[Open] = []
    rows: list[Row] = []
    for process in running(name):
        row_name = f"{called} {process.pid}"
        if process.uid != os.geteuid():
            rows.append(_of_another(row_name, "it is run by", process.uid, option))
        elif process.folder is None:
            rows.append(skipped(row_name, f"it runs, and may not be looked into{instead}"))
        elif process.arguments is None:
            rows.append(skipped(row_name, f"it runs, and shows no command line but a title{instead}"))
        else:
            processes.append(Open(row_name, process.pid, process.arguments, process.folder, process.program))
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
    instead = f", or give {option} PATH" if option else ""
    return skipped(name, f"{why} the user {user}; run wscheck as that user{instead}")


def is_ours(application: str) -> bool:
    """Tell whether `module:name`, or `module`, is of this project, and not of another one on the same machine."""
    package = (django_settings.WSGI_APPLICATION or "").partition(".")[0]
    return bool(package) and application.partition(":")[0].partition(".")[0] == package


def is_our_command(process: Open) -> bool:
    """Tell whether a process that runs a command of Django runs it for this project: by manage.py, or by its folder."""
    package = (django_settings.WSGI_APPLICATION or "").partition(".")[0]
    spec = find_spec(package) if package else None
    folders = [Path(each).resolve() for each in (spec.submodule_search_locations or ())] if spec else []
    script = (process.folder / (process.program or "")).resolve()
    return any(folder.parent in (script.parent, process.folder) or folder in script.parents for folder in folders)


def workers_of(pid: int) -> list[int]:
    """Return which processes of a server serve: those that it, or one of them, has started, and that start no other.

    What runs another program, as a Redis, is none of them.
    """
    family: dict[int, list[int]] = {}
    for folder in kernel.PROC.glob("[0-9]*"):
        try:
            family.setdefault(_parent(folder), []).append(int(folder.name))
        except (OSError, ValueError, IndexError):  # it has ended meanwhile
            continue
    return _leaves(pid, family)


def _leaves(pid: int, family: Mapping[int, list[int]]) -> list[int]:
    own = [child for child in family.get(pid, ()) if _program(child) == _program(pid)]
    return [leaf for child in own for leaf in _leaves(child, family)] or [pid]


def _program(pid: int) -> Path | None:
    try:
        return (kernel.PROC / str(pid) / "exe").readlink()
    except OSError:
        return None


def _parent(folder: Path) -> int:
    return int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])


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
        parent = _parent(folder)
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
        is_command = Path(words[start - 2]).name in DJANGO
        program = current / words[start - 2 if is_command else start - 1]
    return Running(process.pid, parent, uid, process.arguments, current, program)


def _start(words: Sequence[str], name: str) -> int:
    """Return where the arguments of a program begin; 0 if these words do not run it, or do not say so."""
    first = Path(words[0]).name
    if first == name:
        return 1
    if not first.startswith("python"):
        return 0
    takes_value = False
    for index, word in enumerate(words[1:], 1):
        if takes_value or word in ("-X", "-W"):
            takes_value = not takes_value
            continue
        if word == "-m":
            index, word = index + 1, words[index + 1] if index + 1 < len(words) else ""
        elif word.startswith("-"):
            continue
        if Path(word).name == name:
            return index + 1
        return index + 2 if Path(word).name in DJANGO and words[index + 1 :][:1] == [name] else 0
    return 0


def _uid(status: str) -> int:
    """Return the user of a process: one who is not us, if its real, effective, saved and other uid are not all ours."""
    line = next(line for line in status.splitlines() if line.startswith("Uid:"))
    uids = [int(word) for word in line.split()[1:]]
    return next((uid for uid in uids if uid != os.geteuid()), uids[0])
