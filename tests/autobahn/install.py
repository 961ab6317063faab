"""Puts Autobahn|Testsuite's `wstest` into a virtual environment of its own.

It runs on Python 2.7 alone, so it stays out of the environment of the tests.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

SUITE = "autobahntestsuite==0.8.2"
# Later releases of virtualenv make no environment for Python 2.7.
VIRTUALENV = "virtualenv==20.21.1"


class Python27Missing(Exception):
    """No Python 2.7 that runs was found."""


class InstallFailed(Exception):
    """A step of the installation failed; the message has the step's last output."""


def candidates(environ: Mapping[str, str]) -> Iterator[str]:
    """Yields the commands which may be a Python 2.7, the best one first."""
    if named := environ.get("PYTHON27"):
        yield named
    yield "python2.7"
    pyenv = Path(environ.get("PYENV_ROOT") or Path(environ.get("HOME", "/"), ".pyenv"))
    yield from map(str, sorted(pyenv.glob("versions/2.7*/bin/python2.7"), reverse=True))


def find_python27(commands: Iterable[str]) -> str:
    """Returns the executable of the first command that runs and is Python 2.7.

    Raises Python27Missing if there is none.
    """
    code = "import sys; print(sys.executable if sys.version_info[:2] == (2, 7) else '')"
    for command in commands:
        # pyenv leaves a python2.7 on PATH which only says that it is not enabled.
        try:
            done = subprocess.run([command, "-c", code], capture_output=True, text=True)
        except OSError:
            continue
        if done.returncode == 0 and (found := done.stdout.strip()):
            return found
    raise Python27Missing("no Python 2.7 runs here, which wstest needs: name one in PYTHON27")


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Returns the directory of the virtual environment; it need not exist."""
    base = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "/"), ".cache")
    return Path(base, "django-wsredis", "autobahn")


def ensure_wstest(venv: Path | None = None) -> Path:
    """Returns the `bin` directory with `wstest` in it, installing it if it does not run yet.

    Raises Python27Missing or InstallFailed.
    """
    venv = venv or cache_dir(os.environ)
    venv.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{venv}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _works(venv):
            _build(venv, find_python27(candidates(os.environ)))
            if not _works(venv):
                raise InstallFailed(f"{venv / 'bin/wstest'} does not run")
    return venv / "bin"


def _works(venv: Path) -> bool:
    try:
        done = subprocess.run([venv / "bin/wstest", "--autobahnversion"], capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def _build(venv: Path, python27: str) -> None:
    shutil.rmtree(venv, ignore_errors=True)
    with tempfile.TemporaryDirectory() as tool:
        _step(sys.executable, "-m", "venv", tool)
        _step(f"{tool}/bin/pip", "install", "-q", VIRTUALENV)
        _step(f"{tool}/bin/virtualenv", "-q", "-p", python27, str(venv))
    _step(f"{venv}/bin/pip", "install", "-q", SUITE)


def _step(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise InstallFailed(f"{' '.join(command)}: {done.stdout.strip()[-2000:]}")
