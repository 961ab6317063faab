"""runwsserver's parent and its workers: they start, are replaced, reload and end; nobody who uses the site is hurt."""

from __future__ import annotations

import http.client
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from django_wsredis import publish
from django_wsredis.supervisor import how

from .rawsocket import RawSocket
from .servers import Process, RedisServer, Site, copy_project, missing, run_manage, wait_until
from .test_resilience import settled

SERVER = "runwsserver"
NEWS = "news?subscribe-broadcast"
NOBODY = "unix:///nonexistent/redis.sock"


def draining(seconds: float, **wsredis: Any) -> dict[str, Any]:
    """Return settings with a drain time."""
    return {"WSREDIS": {"DRAIN_SECONDS": seconds, **wsredis}}


def count_lines(site: Site, pattern: str) -> int:
    return sum(re.search(pattern, line) is not None for line in site.lines)


def send(site: Site, number: int) -> None:
    """Send a signal to the parent."""
    os.kill(site.popen.pid, number)


def reload(site: Site, outcome: str = "Reloaded: ") -> None:
    """Reload, and wait for what comes of it."""
    start = len(site.lines)
    send(site, signal.SIGHUP)
    site.wait_for(outcome, start=start)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def sockets(site: Site, count: int) -> Iterator[list[RawSocket]]:
    with ExitStack() as stack:
        opened = [stack.enter_context(RawSocket(site.port, NEWS)) for _ in range(count)]
        assert {raw.answer.status for raw in opened} == {101}
        yield opened


class Flow:
    """Pages that are fetched all the time: over connections that are kept alive, and over new ones. None is retried."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: list[str] = []
        self.failures: list[str] = []
        self._has_ended = threading.Event()
        keeps = [True, True, False]
        self._threads = [threading.Thread(target=self._run, args=(is_kept,)) for is_kept in keeps]

    def __enter__(self) -> Flow:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, is_kept: bool) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            while not self._has_ended.wait(0.005):
                try:
                    connection.request("GET", "/")
                    response = connection.getresponse()
                    self.answers.append(f"{response.status} {response.read().decode()}")
                except (OSError, http.client.HTTPException) as error:
                    self.failures.append(repr(error))
                    connection.close()
                if not is_kept:
                    connection.close()


def closing_times(opened: list[RawSocket]) -> list[float]:
    """Return when the server wrote to each socket: its close frame."""
    times = []
    with selectors.DefaultSelector() as selector:
        for raw in opened:
            selector.register(raw.socket, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(20)
            assert ready, "a socket was not closed"
            for key, _ in ready:
                times.append(time.monotonic())
                selector.unregister(key.fileobj)
    return times


# Starting


def test_workers_share_the_socket_and_say_once_that_they_are_ready(start: Callable[..., Site]) -> None:
    site = start("--workers", "3")
    assert len(site.worker_pids()) == 3
    assert f" at {site.url}/ with 3 workers (Ctrl-C stops it)" in site.output
    assert count_lines(site, "System check identified no issues") == 1
    assert count_lines(site, "Started: worker") == 1
    with sockets(site, 60) as opened:
        assert publish("hello", facility="news", broadcast=True) == 3  # each worker has some
        assert {raw.message() for raw in opened} == {"hello"}


def test_what_is_wrong_with_the_project_is_said_once_and_ends_it() -> None:
    settings = {"WSREDIS": {"ALLOWED_CHANNELS": "tests.project.nothing.here"}}
    result = run_manage("runwsserver", "0", "--workers", "3", redis_url=NOBODY, settings=settings)
    assert result.returncode == 1
    assert (result.stderr + result.stdout).count("wsredis.E002") == 1


def test_a_worker_that_is_killed_before_it_is_ready_ends_a_first_start(folder: Path) -> None:
    manage = copy_project(folder)
    manage.with_name("wsgi.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    process = Process([sys.executable, str(manage), "runwsserver", "127.0.0.1:0"], cwd=folder)
    assert process.popen.wait(30) == 128 + signal.SIGKILL
    process.stop()


def test_without_logging_settings_its_lines_go_to_stderr(start: Callable[..., Site]) -> None:
    site = start(settings={"LOGGING": {}})
    wait_until(lambda: count_lines(site, rf"^\d{{4}}-\S+ \S+ \[{site.popen.pid}\] INFO Started: worker {site.pid}\.$"))


# Workers that die


def test_a_killed_worker_is_replaced(start: Callable[..., Site]) -> None:
    site = start("--workers", "2")
    killed, other = site.worker_pids()
    os.kill(killed, signal.SIGKILL)
    site.wait_for(rf"Worker {killed} was killed by SIGKILL; another one starts in")
    wait_until(lambda: len(site.worker_pids()) == 2)
    assert other in site.worker_pids()
    with Flow(site.port) as flow:
        wait_until(lambda: len(flow.answers) > 20)
    assert flow.failures == []


def test_a_worker_that_is_stopped_by_hand_is_replaced_too(start: Callable[..., Site]) -> None:
    site = start()
    ended = site.pid
    with sockets(site, 3) as opened:
        os.kill(ended, signal.SIGHUP)
        assert {raw.closed_with().code for raw in opened} == {1012}
    site.wait_for(f"Worker {ended} ended with status 0; another one starts")
    assert site.get() == (200, "hello")


def test_a_worker_that_cannot_start_is_tried_again_ever_later(start: Callable[..., Site], folder: Path) -> None:
    manage = copy_project(folder)
    views = manage.with_name("views.py")
    site = start(manage=manage)
    text = views.read_text()
    views.write_text("1 / 0\n" + text)
    os.kill(site.pid, signal.SIGKILL)
    for delay in ("0.5", "1", "2"):
        site.wait_for(f"; another one starts in {delay} s")
    assert count_lines(site, "ZeroDivisionError") <= 3
    views.write_text(text)
    assert site.get() == (200, "hello")  # the listener was there all the time


@pytest.mark.parametrize(("status", "said"), [(1, "ended with status 1"), (-9, "was killed by SIGKILL")])
def test_how_a_worker_ended_is_said_in_words(status: int, said: str) -> None:
    assert how(status) == said


# Reloading


def test_new_code_is_served_and_no_request_is_lost(start: Callable[..., Site], folder: Path) -> None:
    manage = copy_project(folder)
    views = manage.with_name("views.py")
    site = start("--workers", "2", "--drain", "1", manage=manage)
    before = site.worker_pids()
    with sockets(site, 40) as opened, Flow(site.port) as flow:
        wait_until(lambda: len(flow.answers) > 50)
        views.write_text(views.read_text().replace('"hello"', '"changed"'))
        reload(site)
        assert {raw.closed_with().code for raw in opened} == {1012}
        wait_until(lambda: not set(before) & set(site.worker_pids()))
        seen = len(flow.answers)
        wait_until(lambda: len(flow.answers) > seen + 50)
    assert flow.failures == []
    assert set(flow.answers[:50]) == {"200 hello"}
    assert set(flow.answers[seen + 6 :]) == {"200 changed"}
    assert set(flow.answers) == {"200 hello", "200 changed"}
    assert len(site.worker_pids()) == 2
    assert site.stop() == 0


def test_broken_code_changes_nothing_and_is_named(start: Callable[..., Site], folder: Path) -> None:
    manage = copy_project(folder)
    views = manage.with_name("views.py")
    text = views.read_text()
    site = start("--workers", "2", manage=manage)
    before = site.worker_pids()
    with sockets(site, 10) as opened, Flow(site.port) as flow:
        views.write_text(text.replace("def hello(", "def hello(("))
        reload(site, "Reload given up: new worker .* ended with status 1 before it was ready")
        assert "SyntaxError" in site.output
        assert site.worker_pids() == before
        publish("still here", facility="news", broadcast=True)
        assert {raw.message() for raw in opened} == {"still here"}
        views.write_text(text)
        reload(site)
        assert {raw.closed_with().code for raw in opened} == {1012}
    assert flow.failures == []


def test_a_failing_check_gives_a_reload_up(start: Callable[..., Site], folder: Path) -> None:
    manage = copy_project(folder)
    site = start(manage=manage)
    before = site.worker_pids()
    with open(manage.with_name("settings.py"), "a") as settings:
        settings.write('WSREDIS["ALLOWED_CHANNELS"] = "nothing.here"\n')
    reload(site, "Reload given up")
    assert "wsredis.E002" in site.output
    assert site.worker_pids() == before


def test_a_reload_during_a_reload_comes_after_it(start: Callable[..., Site]) -> None:
    site = start("--workers", "2")
    send(site, signal.SIGHUP)
    site.wait_for("Reload: 2 to be replaced")
    send(site, signal.SIGHUP)
    send(site, signal.SIGHUP)
    wait_until(lambda: count_lines(site, "Reloaded: ") == 2, 30)
    assert count_lines(site, "Reload: 2 to be replaced") == 2


def test_an_idle_connection_is_still_served_while_its_worker_drains(start: Callable[..., Site]) -> None:
    site = start("--drain", "3")
    with closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)) as connection:
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello"
        kept = connection.sock
        reload(site)
        site.wait_for("Draining")
        with Flow(site.port) as flow:
            wait_until(lambda: len(flow.answers) > 100)  # by the new worker, for some time
        connection.request("GET", "/")
        assert connection.sock is kept
        response = connection.getresponse()
        assert (response.status, response.getheader("Connection"), response.read()) == (200, "close", b"hello")


# Ending


def test_all_workers_tell_their_sockets_that_the_server_stops(start: Callable[..., Site]) -> None:
    site = start("--workers", "2")
    with sockets(site, 40) as opened:
        send(site, signal.SIGTERM)
        assert {raw.closed_with().code for raw in opened} == {1001}
    assert site.popen.wait(10) == 0
    assert site.lines[-1].endswith("Stopped.")


def test_sockets_are_closed_one_after_the_other_over_the_drain_time(start: Callable[..., Site]) -> None:
    site = start("--drain", "2")
    with sockets(site, 60) as opened:
        send(site, signal.SIGTERM)
        times = closing_times(opened)
        assert {raw.closed_with().code for raw in opened} == {1001}
    half = (times[0] + times[-1]) / 2
    assert 15 < sum(at < half for at in times) < 45
    assert times[-1] - times[0] > 1


def test_what_waits_for_a_socket_is_sent_before_it_is_closed(
    start: Callable[..., Site], redis_server: RedisServer
) -> None:
    site = start("--drain", "2", settings={"WSREDIS": {"MAX_OUTBOX_BYTES": 64 * 1024 * 1024}})
    sent = [f"{number} " + "x" * 500_000 for number in range(24)]  # more than the kernel's buffers hold
    with sockets(site, 1) as [raw]:
        for message in sent:
            publish(message, facility="news", broadcast=True)
        with site.connect("done?subscribe-broadcast") as other:  # it has taken them from Redis
            publish("done", facility="done", broadcast=True)
            assert other.recv(10) == "done"
        send(site, signal.SIGTERM)
        site.wait_for("Draining")
        assert [raw.message() for _ in sent] == sent
        assert raw.closed_with().code == 1001


def test_a_request_that_has_begun_is_finished(start: Callable[..., Site]) -> None:
    site = start("--drain", "5")
    at_rest = settled(site.threads)
    with ThreadPoolExecutor(1) as pool, socket.create_connection(("127.0.0.1", site.port)) as idle:
        slow = pool.submit(site.get, "slow/1000/")
        wait_until(lambda: site.threads() > at_rest)
        send(site, signal.SIGTERM)
        assert slow.result() == (200, "slow")
        assert idle.recv(1) == b""
    assert site.popen.wait(10) == 0
    assert "cut off" not in site.output


def test_a_handshake_that_is_not_done_when_the_drain_begins_gets_503(start: Callable[..., Site]) -> None:
    site = start("--drain", "4", settings={"WSREDIS": {"ALLOWED_CHANNELS": "tests.project.callbacks.by_query"}})
    with sockets(site, 2) as opened, ThreadPoolExecutor(4) as pool:
        late = [pool.submit(RawSocket, site.port, f"{NEWS}&callback=sleep") for _ in range(4)]
        wait_until(lambda: site.output.count("A callback sleeps.") == len(late))
        send(site, signal.SIGTERM)
        for future in late:
            with future.result() as raw:
                assert raw.answer.status == 503
        assert {raw.closed_with().code for raw in opened} == {1001}
    assert site.popen.wait(10) == 0


def test_told_twice_it_ends_at_once(start: Callable[..., Site]) -> None:
    site = start("--workers", "2", "--drain", "60")
    pids = site.worker_pids()
    with sockets(site, 10):
        site.press_ctrl_c()
        wait_until(lambda: count_lines(site, "Draining") == 2)
        site.press_ctrl_c()
        assert site.popen.wait(10) == 1
    assert not any(map(is_alive, pids))


def test_one_ctrl_c_is_one_stop(start: Callable[..., Site]) -> None:
    site = start("--workers", "2")
    with sockets(site, 10) as opened:
        site.press_ctrl_c()
        assert {raw.closed_with().code for raw in opened} == {1001}
    assert site.popen.wait(10) == 0
    assert site.stop() == 0
    assert "Traceback" not in site.output
    assert "KeyboardInterrupt" not in site.output


def test_workers_end_without_their_parent(start: Callable[..., Site]) -> None:
    site = start("--workers", "2")
    pids = site.worker_pids()
    with sockets(site, 10) as opened:
        send(site, signal.SIGKILL)
        assert {raw.closed_with().code for raw in opened} == {1001}
    wait_until(lambda: not any(map(is_alive, pids)))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", site.port))


# Options


def test_a_full_worker_refuses_what_is_above_max_sockets(start: Callable[..., Site]) -> None:
    site = start("--max-sockets", "3")
    with sockets(site, 3), RawSocket(site.port, NEWS) as refused:
        assert refused.answer.status == 503


def test_the_file_of_a_unix_socket_has_the_rights_of_its_umask(start: Callable[..., Site], folder: Path) -> None:
    path = folder / "web.sock"
    site = start("--unix", str(path), "--umask", "007", "--workers", "2")
    assert path.stat().st_mode & 0o777 == 0o770
    assert site.stop() == 0
    assert not path.exists()


def test_a_backlog_is_the_kernels(start: Callable[..., Site]) -> None:
    site = start("--backlog", "7")
    if not (program := shutil.which("ss")):
        missing("no ss, of iproute2, to ask the kernel with")
    shown = subprocess.run([program, "-Hltn", f"sport = :{site.port}"], capture_output=True, text=True, check=True)
    assert shown.stdout.split()[2] == "7"


def test_the_pid_file_names_the_parent_until_it_ends(start: Callable[..., Site], folder: Path) -> None:
    path = folder / "web.pid"
    path.write_text("999999999\n")  # of a server that died
    site = start("--pid", str(path), "--workers", "2")
    assert path.read_text() == f"{site.popen.pid}\n"
    second = run_manage("runwsserver", "0", "--pid", str(path), redis_url=NOBODY)
    assert second.returncode == 1
    assert f"CommandError: {path} names process {site.popen.pid}, which runs" in second.stderr
    reload(site)
    assert path.read_text() == f"{site.popen.pid}\n"
    assert site.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (["--workers", "2"], {"DEBUG": True}, "--workers needs --noreload"),
        (["--workers", "0"], {}, "'0' is not a whole number above 0"),
        (["--umask", "8"], {}, "'8' is not an octal umask, such as 007"),
        (["--umask", "007"], {}, "--umask is for the file of a unix socket: --unix PATH."),
        (["--drain", "-1"], {}, "'-1' is not a number of seconds"),
        (["--drain", "soon"], {}, "'soon' is not a number of seconds"),
        (["--max-sockets", "many"], {}, "'many' is not a whole number above 0"),
        (["--pid", "/nonexistent/web.pid"], {}, "Cannot write /nonexistent/web.pid: No such file or directory."),
        (["--keyfile", "key.pem"], {}, "--keyfile belongs to a certificate: --certfile FILE."),
    ],
)
def test_options_that_cannot_work_are_named(arguments: list[str], settings: dict[str, Any], said: str) -> None:
    result = run_manage("runwsserver", "0", *arguments, redis_url=NOBODY, settings=settings)
    assert result.returncode == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr
