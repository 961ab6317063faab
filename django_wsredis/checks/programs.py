"""Programs of the machine: asked for what they are, within a time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
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
