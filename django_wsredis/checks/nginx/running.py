"""Where NGiNX runs, and as which user its workers do; how many files they may open. Read from /proc."""

from __future__ import annotations

import grp
import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path

from .program import NAMES, USUAL_PATH, Program
from .reading import Configuration, Directive

USUAL_PID_PATHS = ("/run/nginx.pid", "/var/run/nginx.pid")
CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")  # of Docker, and of Podman


@dataclass(frozen=True, slots=True)
class Account:
    """A user with his groups."""

    uid: int
    gid: int
    groups: frozenset[int]

    @property
    def name(self) -> str:
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    @property
    def group(self) -> str:
        return _group(self.gid)

    @staticmethod
    def named_owner(status: os.stat_result) -> str:
        """Return the owner and the group of a file, for people."""
        return f"{Account(status.st_uid, status.st_gid, frozenset()).name}:{_group(status.st_gid)}"


@dataclass(frozen=True, slots=True)
class Workers:
    """What the workers of a NGiNX that runs have. max_files: None if there is no limit, or it is not known."""

    account: Account
    max_files: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where NGiNX has a configuration, as far as it is known.

    program: that of this machine, None if it may be another. workers: of the NGiNX that runs here with it, None if none
    does, or it is not known. account: that of its workers. is_here: whether it is for this machine, so that its
    addresses are ours. has_own_ports: whether browsers come by the ports at which it listens.
    """

    program: Program | None = None
    workers: Workers | None = None
    account: Account | None = None
    is_here: bool = False
    has_own_ports: bool = False


def surroundings(configuration: Configuration, program: Program | None) -> Surroundings:
    """Return where a configuration is in use."""
    workers = workers_of(configuration, program)
    is_here = not configuration.is_copy and (workers is not None or program is not None)
    if not is_here:
        return Surroundings()
    return Surroundings(
        program=program,
        workers=workers,
        account=workers.account if workers else account_of(configuration),
        is_here=True,
        has_own_ports=not any(map(os.path.exists, CONTAINER_MARKS)),
    )


def workers_of(configuration: Configuration, program: Program | None) -> Workers | None:
    """Return the workers of the NGiNX that runs with a main file, None if none does, or it is not known."""
    if not configuration.is_whole or configuration.is_copy:
        return None
    named = [found.args[0] for found in configuration.main.all("pid") if found.args]
    own = [program.pid_path] if program and program.pid_path else []
    for path in named or [*own, *USUAL_PID_PATHS]:
        try:
            pid = int(Path(path).read_text())
            comm = Path(f"/proc/{pid}/comm").read_text().strip()
            usual = program.main_path if program else USUAL_PATH
            if comm in NAMES and os.path.realpath(_main_file(pid, usual)) == os.path.realpath(configuration.path):
                return _process(_worker(pid))
        except (OSError, ValueError):
            continue
    return None


def _main_file(pid: int, usual: str) -> str:
    """Return the main file with which a master was started; `usual` where it was not told. Its title has the words."""
    title = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    given, prefix = (re.search(rf"\s-{option}\s*(\S+)", title) for option in "cp")
    return os.path.join(prefix[1] if prefix else os.path.dirname(usual), given[1] if given else usual)


def account_of(configuration: Configuration) -> Account | None:
    """Return the user of the workers by `user`, which counts if root starts NGiNX; None if that names nobody."""
    named: list[Directive] = configuration.main.all("user") if configuration.is_whole else []
    try:
        user = pwd.getpwnam(named[-1].args[0])
        gid = grp.getgrnam(named[-1].args[1]).gr_gid if len(named[-1].args) > 1 else _group_of(user)
        return Account(user.pw_uid, gid, frozenset(os.getgrouplist(user.pw_name, gid)))
    except (KeyError, IndexError):
        return None


def _group_of(user: pwd.struct_passwd) -> int:
    """Return the group that NGiNX takes where none is written: the one of the user's name."""
    try:
        return grp.getgrnam(user.pw_name).gr_gid
    except KeyError:
        return user.pw_gid


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _worker(pid: int) -> int:
    """Return a worker of a master: the master itself if it has none, as with `master_process off`."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


def _process(pid: int) -> Workers:
    status = Path(f"/proc/{pid}/status").read_text()
    uid, gid = (int(re.findall(rf"^{name}:\s+\d+\s+(\d+)", status, re.M)[0]) for name in ("Uid", "Gid"))
    groups = re.search(r"^Groups:(.*)$", status, re.M)
    limit = re.search(r"^Max open files\s+(\d+)", Path(f"/proc/{pid}/limits").read_text(), re.M)
    account = Account(uid, gid, frozenset({gid, *map(int, groups[1].split() if groups else ())}))
    return Workers(account, int(limit[1]) if limit else None)
