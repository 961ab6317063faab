"""Reloads and stops of every host, as it is configured by what `wscheck --emit` prints: nobody loses anything."""

from __future__ import annotations

import http.client
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from .layouts import Layout, find_uwsgi, run_gunicorn, run_runwsserver, run_uwsgi, running
from .servers import RedisServer, wait_until

SOCKETS = 30
DRAIN_SECONDS = 2  # at least what uWSGI's master needs to notice things
PATH = "layout?subscribe-broadcast"


def runwsserver(layout: Layout) -> None:
    run_runwsserver(layout, f"127.0.0.1:{layout.port}", "--workers", "2")


def uwsgi_gevent(layout: Layout) -> None:
    run_uwsgi(layout, find_uwsgi(), "--listen", f"127.0.0.1:{layout.port}", "--workers", "2")


def uwsgi_threads(layout: Layout) -> None:
    run_uwsgi(layout, find_uwsgi(), "--listen", f"127.0.0.1:{layout.port}", "--workers", "2", "--threads", "4")


def gunicorn_gevent(layout: Layout) -> None:
    run_gunicorn(layout, "--listen", f"127.0.0.1:{layout.port}", worker_class="gevent")


def gunicorn_threads(layout: Layout) -> None:
    run_gunicorn(layout, "--listen", f"127.0.0.1:{layout.port}")


def uwsgi_router(layout: Layout) -> None:
    run_uwsgi(layout, find_uwsgi(), "--listen", f"127.0.0.1:{layout.port}", "--workers", "2", "--router")


HOSTS = [runwsserver, uwsgi_gevent, uwsgi_threads, uwsgi_router, gunicorn_gevent, gunicorn_threads]


@pytest.fixture(params=HOSTS, ids=lambda start: start.__name__)
def start(request: pytest.FixtureRequest) -> Callable[[Layout], None]:
    return request.param


class DrainingLayout(Layout):
    def __init__(self, folder: Path, redis_server: RedisServer) -> None:
        super().__init__(folder, redis_server)
        self.settings["WSREDIS"].update({"DRAIN_SECONDS": DRAIN_SECONDS, "PING_INTERVAL": 20})


@pytest.fixture
def layout(start: Callable[[Layout], None], folder: Path, redis_server: RedisServer) -> Iterator[Layout]:
    with running(start, folder, redis_server, DrainingLayout) as layout:
        yield layout


def reload(layout: Layout) -> None:
    """Do what the host's documentation says for new code."""
    (process,) = layout.sites
    if ini := next(layout.folder.glob("*.ini"), None):
        found = re.search(r"^touch-chain-reload = (.+)$", ini.read_text(), re.M)
        assert found
        Path(found[1]).touch()
        os.utime(found[1])
    else:
        os.kill(process.pid, signal.SIGHUP)


def wait_until_reloaded(layout: Layout) -> None:
    """Wait for the end of a reload: a worker of uWSGI that is told to stop while it starts is killed much later."""
    (process,) = layout.sites
    if any(layout.folder.glob("*.ini")):
        process.wait_for("chain reloading complete")


class Watcher(threading.Thread):
    """Waits for a socket's end, and remembers its code and when it came."""

    def __init__(self, websocket: ClientConnection) -> None:
        super().__init__(daemon=True)
        self.websocket = websocket
        self.code: int | None = None
        self.at = 0.0
        self.start()

    def run(self) -> None:
        try:
            while True:
                self.websocket.recv()
        except ConnectionClosed as closed:
            self.at = time.monotonic()
            self.code = closed.rcvd.code if closed.rcvd else None


@contextmanager
def watched(layout: Layout, count: int) -> Iterator[list[Watcher]]:
    with ExitStack() as stack:
        watchers = [Watcher(stack.enter_context(layout.connect(PATH))) for _ in range(count)]
        yield watchers
    for watcher in watchers:
        watcher.join(10)


def wait_for_the_end(watchers: list[Watcher]) -> set[int | None]:
    for watcher in watchers:
        watcher.join(40)
        assert not watcher.is_alive()
    return {watcher.code for watcher in watchers}


@contextmanager
def steady_requests(layout: Layout) -> Iterator[list[str]]:
    """Ask for pages all the time, on new connections and on one that is kept; yield what went wrong."""
    wrong: list[str] = []
    counts = [0, 0]
    is_over = threading.Event()

    def ask(kept: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", layout.port, timeout=20)
        while not is_over.wait(0.01):
            try:
                connection.request("GET", "/")
                response = connection.getresponse()
                if (response.status, response.read()) != (200, b"hello"):
                    wrong.append(f"{response.status}")
                counts[kept] += 1
            except (OSError, http.client.HTTPException) as error:
                wrong.append(f"{kept}: {error!r}")
                connection.close()
            if not kept:
                connection.close()
        connection.close()

    threads = [threading.Thread(target=ask, args=(0,)), threading.Thread(target=ask, args=(1,))]
    if layout.sites[0].popen.args[0].endswith("uwsgi"):
        del threads[1]  # its --http-socket keeps no connection
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert all(counts[: len(threads)])


def test_a_reload_runs_new_workers_loses_no_request_and_tells_each_socket_to_come_back(layout: Layout) -> None:
    before = set(layout.pids())
    with watched(layout, SOCKETS) as watchers, steady_requests(layout) as wrong:
        slow = [Slow(layout) for _ in range(2)]  # uWSGI tells of the end twice where a request is under way
        wait_until(lambda: all(page.is_asked for page in slow))
        reload(layout)
        assert wait_for_the_end(watchers) == {1012}
        times = [watcher.at for watcher in watchers]
        assert max(times) - min(times) > DRAIN_SECONDS / 4  # spread, and not in one moment
        (process,) = layout.sites
        wait_until(lambda: len(before & set(layout.pids())) == len(before) - 2, 30, "the end of the old workers")
        with layout.connect(PATH):
            pass
        wait_until_reloaded(layout)
    for page in slow:
        page.join(20)
    assert [page.status for page in slow] == [200, 200]
    assert wrong == []
    assert process.popen.poll() is None
    assert "Traceback" not in layout.output


def test_a_stop_says_goodbye_to_each_socket_even_while_a_page_is_made(layout: Layout) -> None:
    (process,) = layout.sites
    with watched(layout, SOCKETS) as watchers:
        slow = [Slow(layout) for _ in range(2)]
        wait_until(lambda: all(page.is_asked for page in slow))
        os.kill(process.pid, signal.SIGTERM)
        assert wait_for_the_end(watchers) == {1001}
    assert process.popen.wait(40) == 0
    for page in slow:
        page.join(20)
    assert "Traceback" not in layout.output


class Slow(threading.Thread):
    """Asks for a page that takes its time."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(daemon=True)
        self._port = layout.port
        self.is_asked = False
        self.status: int | None = None
        self.start()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            connection.request("GET", "/slow/1000/")
            self.is_asked = True
            response = connection.getresponse()
            response.read()
            self.status = response.status
        except (OSError, http.client.HTTPException):  # uWSGI's stop cuts requests
            self.is_asked = True
        finally:
            connection.close()


@pytest.fixture(scope="module", autouse=True)
def no_reload_file_is_left() -> Iterator[None]:
    yield
    for path in Path(__file__).parents[1].glob("*.reload"):
        path.unlink()
