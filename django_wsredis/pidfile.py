"""The file that tells a server's process id."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ProcessRuns(Exception):
    """The file names a process that runs."""


def require_unused(path: Path) -> None:
    """Raise ProcessRuns if a file names a process that runs. Raises OSError."""
    try:
        pid = int(path.read_text())
    except (FileNotFoundError, ValueError):  # none, or not a pid file: writing it says what is wrong with it
        return
    if pid > 0 and pid != os.getpid() and _runs(pid):
        raise ProcessRuns(f"{path} names process {pid}, which runs. If that is no server, remove the file.")


@contextmanager
def written(path: Path | None) -> Iterator[None]:
    """Have our process id in a file inside the `with`. Raises OSError."""
    if path is None:
        yield
        return
    text = f"{os.getpid()}\n"
    # so that nobody reads half of it
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(text)
    new.replace(path)
    try:
        yield
    finally:
        try:
            if path.read_text() == text:
                path.unlink()
        except OSError:  # somebody has removed it, or its folder
            pass


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        pass
    return True
