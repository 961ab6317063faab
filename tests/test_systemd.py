"""systemd's two protocols, with a test in systemd's place: its socket is handed over, and it is told how things are."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from django_wsredis.systemd import Notifier, WrongSockets, take_socket

from .servers import ROOT, Site, copy_project

SERVER = "runwsserver"

# systemd's child before it becomes the service: descriptors from 3 on, and its own process id
BECOME = """
import os, sys
given, count, *command = sys.argv[1:]
for target, source in enumerate(map(int, filter(None, given.split(","))), 3):
    os.dup2(source, target)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=count, LISTEN_FDNAMES="web.socket")
os.execv(command[0], command)
"""


class ActivatedSite(Site):
    """The tests' project as a service with a socket unit."""

    def __init__(self, database: Path, redis_url: str, *arguments: str, listeners: list[socket.socket]) -> None:
        numbers = [listener.fileno() for listener in listeners]
        self._become = [sys.executable, "-c", BECOME, ",".join(map(str, numbers)), str(len(numbers))]
        self._numbers = numbers
        super().__init__("runwsserver", *arguments, database=database, redis_url=redis_url)

    def start_process(self, command: list[str], **options: object) -> subprocess.Popen[str]:
        return super().start_process([*self._become, *command], pass_fds=self._numbers, **options)


@contextmanager
def notified(address: str) -> Iterator[Callable[[], dict[str, str]]]:
    """Be systemd at an address: yield what returns the next notice."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + address[1:] if address.startswith("@") else address)
        sock.settimeout(20)
        yield lambda: dict(line.split("=", 1) for line in sock.recv(4096).decode().split("\n"))


# The socket


def test_the_socket_of_systemd_is_served_whatever_the_address(database: Path, redis_server: object) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        site = ActivatedSite(database, redis_server.url, "127.0.0.1:1", "--workers", "2", listeners=[listener])
        try:
            assert site.port == port
            assert f"at http://127.0.0.1:{port}/ on systemd's socket with 2 workers" in site.output
            assert site.get() == (200, "hello")
            for pid in site.worker_pids():
                environ = Path(f"/proc/{pid}/environ").read_text()
                assert not re.search("LISTEN_|NOTIFY_SOCKET", environ)
        finally:
            assert site.stop() == 0
        # while the service restarts, connections wait in systemd's socket
        with closing(socket.create_connection(("127.0.0.1", port))):
            pass


def test_a_unix_socket_of_systemd_is_not_removed(database: Path, redis_server: object, folder: Path) -> None:
    path = folder / "web.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        site = ActivatedSite(database, redis_server.url, "--unix", str(path), listeners=[listener])
        assert site.url == f"unix:{path}"
        assert site.stop() == 0
    assert path.exists()


@pytest.mark.parametrize("count", [0, 2])
def test_other_numbers_of_sockets_are_an_error(database: Path, count: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        listeners = [one, two][:count]
        numbers = [listener.fileno() for listener in listeners]
        command = [sys.executable, "-c", BECOME, ",".join(map(str, numbers)), str(count)]
        command += [sys.executable, str(ROOT / "tests/project/manage.py"), "runwsserver"]
        result = subprocess.run(command, pass_fds=numbers, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert f"CommandError: systemd hands over {count} sockets, and one is needed" in result.stderr


def test_what_does_not_listen_is_no_socket_to_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monkeypatch.setattr("django_wsredis.systemd.FIRST_DESCRIPTOR", os.dup(ours.fileno()))
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        with pytest.raises(WrongSockets, match="does not listen for streams"):
            take_socket()
    assert "LISTEN_FDS" not in os.environ


def test_what_is_meant_for_another_process_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert take_socket() is None
    assert "LISTEN_FDS" not in os.environ


# The notices


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_it_is_told_of_start_reload_and_stop(start: Callable[..., Site], folder: Path, kind: str) -> None:
    address = str(folder / "notify.sock") if kind == "path" else f"@{folder.name}"
    with notified(address) as notice:
        site = start("--workers", "2", env={"NOTIFY_SOCKET": address})
        ready = notice()
        assert (ready["READY"], ready["MAINPID"]) == ("1", str(site.popen.pid))
        assert len(site.worker_pids()) == 2

        before = time.monotonic_ns() // 1000
        os.kill(site.popen.pid, signal.SIGHUP)
        reloading = notice()
        assert reloading["RELOADING"] == "1"
        assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert notice()["READY"] == "1"

        os.kill(site.popen.pid, signal.SIGTERM)
        assert notice()["STOPPING"] == "1"


def test_a_reload_that_is_given_up_is_over_too(start: Callable[..., Site], folder: Path) -> None:
    manage = copy_project(folder)
    address = str(folder / "notify.sock")
    with notified(address) as notice:
        site = start(manage=manage, env={"NOTIFY_SOCKET": address})
        assert notice()["READY"] == "1"
        manage.with_name("views.py").write_text("1 / 0")
        os.kill(site.popen.pid, signal.SIGHUP)
        assert notice()["RELOADING"] == "1"
        over = notice()
        assert over["READY"] == "1"
        assert over["STATUS"].startswith("Reload given up")


def test_without_systemd_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready("fine")


def test_a_systemd_that_does_not_listen_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")
    notifier = Notifier()
    assert "NOTIFY_SOCKET" not in os.environ
    notifier.stopping()
