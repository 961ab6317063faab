"""Programs of the machine: asked for what they are, within a time; and which of them run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOBODY = 65534  # the user and the group of these numbers own nothing, by old custom
PATIENCE_SECONDS = 2.0  # for all programs of one area, so that what hangs holds nobody up
SYSTEM_FOLDERS = (
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
    "/usr/local/nginx/sbin",
)  # which are not on the PATH of an ordinary user


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program said. status: its exit status, None if it could not be run, or did not end in time."""

    status: int | None
    text: str  # both its outputs, or why there is none

    @property
    def first_line(self) -> str:
        """The first line that has something on it."""
        return next((line.strip() for line in self.text.splitlines() if line.strip()), "")


class Patience:
    """The seconds that an area may wait for its programs, all together."""

    def __init__(self, seconds: float = PATIENCE_SECONDS) -> None:
        self._end = time.monotonic() + seconds

    def ask(
        self,
        *command: str | Path,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        as_nobody: bool = False,
    ) -> Answer:
        """Run a program that only tells something. Raises nothing.

        as_nobody: root is to run it as a user who may change nothing.
        """
        user: dict[str, Any] = {}
        if as_nobody and os.geteuid() == 0:
            user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        try:
            process = subprocess.Popen(
                list(map(str, command)), cwd=folder, env=environment, text=True, errors="replace",
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                **user,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            return Answer(None, f"{command[0]} cannot be run: {getattr(error, 'strerror', None) or error}")
        with process:
            try:
                text, _ = process.communicate(timeout=max(self._end - time.monotonic(), 0.05))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # with what it has started
                return Answer(None, f"{command[0]} does not answer")
        return Answer(process.returncode, text)


def find_program(*names: str) -> Path | None:
    """Return the first program of these names: beside Python, on PATH, or where those of root are."""
    folders = [str(Path(sys.executable).parent), *os.get_exec_path(), *SYSTEM_FOLDERS]
    for name in names:
        if found := shutil.which(name, path=os.pathsep.join(folders)):
            return Path(found)
    return None


@dataclass(frozen=True, slots=True)
class Running:
    """A process. folder: its current one, None if that may not be seen."""

    pid: int
    parent: int
    arguments: Sequence[str]
    folder: Path | None


def running(name: str) -> Iterator[Running]:
    """Yield the processes of a program, without those that another of them has started; none where there is no /proc.

    It is known by its own name, by a title that begins with it, or by the script that its Python runs.
    """
    found = [process for process in map(_read, Path("/proc").glob("[0-9]*")) if process and _is(process, name)]
    pids = {process.pid for process in found}
    yield from (process for process in found if process.parent not in pids)


def _is(process: Running, name: str) -> bool:
    first, *rest = process.arguments
    if Path(first).name == name or first.startswith(f"{name}: "):
        return True
    scripts = [argument for argument in rest if not argument.startswith("-")][:1]
    is_script = bool(scripts) and Path(scripts[0]).name == name
    return Path(first).name.startswith("python") and (is_script or list(rest[:2]) == ["-m", name])


def _read(folder: Path) -> Running | None:
    try:
        arguments = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        parent = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):  # it has ended meanwhile
        return None
    try:
        current = (folder / "cwd").readlink()
    except OSError:  # another user's
        current = None
    return Running(int(folder.name), parent, arguments, current) if arguments[0] else None
