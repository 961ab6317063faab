"""One contract for every layout of the deployment guide: real servers, with exactly what `wscheck --emit` prints."""

from __future__ import annotations

import importlib.util
import random
import re
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import pytest
from django.test import override_settings
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode
from websockets.sync.client import ClientConnection

from django_wsredis import publish

from . import layouts
from .layouts import (
    LAYOUTS,
    SECRET,
    TIMEOUT,
    Layout,
    certificate,
    crowd,
    find_uwsgi,
    read_frames,
    run_proxy,
    run_uwsgi,
)
from .rawsocket import close, masked, more, ping, text
from .servers import ROOT, RedisServer, free_port, may_open, missing, wait_until
from .tls import trust

MIB = 1024 * 1024
MANY = 1000
FILES = 2 * MANY + 500
LISTEN = "?subscribe-broadcast"
TALK = "?subscribe-broadcast&publish-broadcast"
SLOW_MACHINE_SECONDS = 3.0


@pytest.fixture(scope="module", autouse=True)
def _many_files() -> Iterator[None]:
    with may_open(FILES):
        yield


@contextmanager
def running(start: Callable[[Layout], None], redis_server: RedisServer) -> Iterator[Layout]:
    with tempfile.TemporaryDirectory(prefix="wsr-") as folder, override_settings(WSREDIS={"URL": redis_server.url}):
        with layouts.running(start, Path(folder), redis_server) as layout:
            yield layout


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda start: start.__name__)
def layout(request: pytest.FixtureRequest, shared_redis: RedisServer, database: object) -> Iterator[Layout]:
    with running(request.param, shared_redis) as layout:
        yield layout
    print(layout.output)
    assert "Traceback" not in layout.output


_numbers = count()


@pytest.fixture
def facility() -> str:
    """A facility that no other test uses, and that Redis lets the site use."""
    return f"layout{next(_numbers)}"


def talkers(layout: Layout, facility: str) -> tuple[ClientConnection, ClientConnection]:
    return layout.connect(facility + TALK), layout.connect(facility + TALK)


# Messages


@pytest.mark.parametrize(
    "message",
    ["hello", "", "grüße 😀", b"", b"\x00\xff", b"text", "x" * MIB, random.Random(4).randbytes(MIB)],
    ids=["text", "no text", "umlauts", "no bytes", "bytes", "text as bytes", "much text", "many bytes"],
)
def test_a_message_arrives_as_it_was_from_django_and_from_a_browser(
    layout: Layout, facility: str, message: str | bytes
) -> None:
    one, two = talkers(layout, facility)
    with one, two:
        assert publish(message, facility=facility, broadcast=True) >= 1
        assert one.recv(15) == two.recv(15) == message
        one.send(message)
        assert two.recv(15) == message


def test_fragments_become_one_message_with_pings_in_between(layout: Layout, facility: str) -> None:
    with layout.raw(facility + TALK) as raw, layout.connect(facility + LISTEN) as listener:
        raw.send(text(b"gr\xc3", fin=False), ping(b"1"), more(b"\xbc\xc3"), more(b"\x9f"))
        raw.send(more(b"", fin=False), more(b"e", fin=True), masked(Opcode.BINARY, b"end"))
        assert [listener.recv(15), listener.recv(15)] == ["grüße", b"end"]
        assert raw.pong() == b"1"


@pytest.mark.parametrize(
    ("query", "frame", "code"),
    [
        pytest.param(TALK, close(1000), 1000, id="the client's 1000"),
        pytest.param(TALK, close(4321, b"bye"), 4321, id="the client's own"),
        pytest.param(TALK, masked(Opcode.TEXT, b"x", reserved=0x40), 1002, id="reserved bit"),
        pytest.param(TALK, text(b"\xff"), 1007, id="no UTF-8"),
        pytest.param(TALK, b"\x82\xff" + struct.pack("!Q", MIB + 1) + b"mask", 1009, id="too large"),
        pytest.param(LISTEN, text("hello"), 1003, id="may not publish"),
    ],
)
def test_a_close_code_reaches_the_client(layout: Layout, facility: str, query: str, frame: bytes, code: int) -> None:
    with layout.raw(facility + query) as raw:
        raw.send(frame)
        assert raw.closed_with().code == code


# Who may connect


def test_only_pages_of_this_site_may_connect(layout: Layout, facility: str) -> None:
    with layout.raw(facility + LISTEN, {"Origin": layout.origin}) as raw:
        assert raw.answer.status == 101
    for origin in ("https://evil.net", f"{layout.origin}0", "null"):
        with layout.raw(facility + LISTEN, {"Origin": origin}) as raw:
            assert raw.answer.status == 403


def test_the_user_of_the_session_is_known(layout: Layout, facility: str, alice: str, bob: str) -> None:
    with (
        layout.connect(f"{facility}?subscribe-user", cookie=alice) as one,
        layout.connect(f"{facility}?subscribe-user", cookie=bob) as two,
    ):
        publish("for alice", facility=facility, users=["alice"])
        publish("for both", facility=facility, users=["alice", "bob"])
        assert [one.recv(15), one.recv(15)] == ["for alice", "for both"]
        assert two.recv(15) == "for both"
    with layout.raw(f"{facility}?subscribe-user") as raw:
        assert raw.answer.status == 403
    assert '"user": "alice"' in layout.get("whoami/", cookie=alice)[1]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("layout?subscribe-everything", {}, 400),
        ("layout?subscribe-broadcast", {"Sec-WebSocket-Key": "c2hvcnQ="}, 400),
        ("?subscribe-broadcast", {}, 404),
        ("layout?subscribe-broadcast", {"Upgrade": None, "Connection": None}, 426),
        ("layout?subscribe-broadcast", {"Sec-WebSocket-Version": "8"}, 426),
        (f"{SECRET}?subscribe-broadcast", {}, 503),
    ],
)
def test_a_refusal_keeps_its_status(layout: Layout, path: str, headers: dict[str, str | None], status: int) -> None:
    with layout.raw(path, headers) as raw:
        assert raw.answer.status == status
        assert raw.answer.headers.get("sec-websocket-version") == ("13" if status == 426 else None)


# Long lives, and many


def test_a_silent_socket_outlives_the_proxys_timeout_because_it_is_pinged(layout: Layout, facility: str) -> None:
    with layout.connect(facility + LISTEN) as idle:
        with pytest.raises(TimeoutError):
            idle.recv(1.5 * TIMEOUT)  # pings are answered meanwhile
        publish("still here", facility=facility, broadcast=True)
        assert idle.recv(15) == "still here"
        if layout.cuts_silence:
            with layout.frozen(), pytest.raises(ConnectionClosed):  # as without pings
                idle.recv(TIMEOUT + SLOW_MACHINE_SECONDS)
            wait_until(lambda: is_well(layout), 20, "taking sockets again")


def is_well(layout: Layout) -> bool:
    """Tell whether all workers have their Redis, which they lose when they are frozen."""
    for _ in range(10 * layout.workers):
        with layout.raw("layout" + LISTEN) as raw:
            if raw.answer.status != 101:
                return False
    return True


def test_a_thousand_sockets_get_a_message(layout: Layout, facility: str) -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(sock) for sock in crowd(layout, MANY, facility + LISTEN)]
        assert 1 <= publish("to all", facility=facility, broadcast=True) <= layout.workers
        for sock in sockets:
            read_frames(sock, b"\x81\x06to all")
        assert layout.get() == (200, "hello")


def test_any_worker_serves_any_reconnect(layout: Layout, facility: str, alice: str) -> None:
    reach_every_worker(layout, facility, alice)


def reach_every_worker(layout: Layout, facility: str, alice: str) -> None:
    """Open sockets until each worker has one."""

    def is_heard_by_all() -> bool:
        stack.enter_context(layout.connect(f"{facility}?subscribe-user", cookie=alice))
        return publish("hello", facility=facility, users=["alice"]) == layout.workers

    with ExitStack() as stack:
        wait_until(is_heard_by_all, 20, f"a socket in each of {layout.workers} workers")


def test_peers_that_vanish_leave_nothing_behind(layout: Layout, facility: str, alice: str) -> None:
    reach_every_worker(layout, facility, alice)  # as each opens its Redis with its first socket
    settle(layout)
    # counted, as the lines of several processes stand one process after the other
    before, at_rest = Counter(layout.lines), layout.descriptors()
    with layout.connect(facility + LISTEN) as witness:
        descriptors = layout.descriptors()
        raws = [layout.raw(facility + TALK) for _ in range(60)]
        for number, raw in enumerate(raws):
            if number % 2:
                raw.send(text("x" * 5000)[:100])  # half a frame
            if number % 3:
                raw.abort()  # RST
            else:
                raw.socket.close()  # FIN
        for _ in range(10):
            raw = layout.raw(facility + LISTEN, {"Connection": None, "Upgrade": None})  # refused
            raw.socket.close()
        wait_until(lambda: layout.descriptors() <= descriptors, 20, f"{descriptors} open files again")
        publish("still here", facility=facility, broadcast=True)
        assert witness.recv(15) == "still here"
    wait_until(lambda: layout.descriptors() <= at_rest, 20, f"{at_rest} open files again")
    news = [line for line in Counter(layout.lines) - before if re.search("WARNING|ERROR|Traceback|Exception", line)]
    assert [line for line in news if "426 /ws/" not in line] == []

    used = layout.cpu_seconds()
    time.sleep(1)  # nothing to wait for: a loop that spins would use all of it
    assert layout.cpu_seconds() - used < 0.5


def settle(layout: Layout) -> None:
    """Have the proxies open what they keep open, and wait until the sockets of the tests before have gone."""
    for _ in range(20):
        layout.get()
    seen: list[int] = []

    def is_settled() -> bool:
        seen.append(layout.descriptors())
        return len(seen) > 50 and len(set(seen[-50:])) == 1

    wait_until(is_settled, 30, "a steady number of open files")


# Pages


def test_pages_uploads_and_streams_pass(layout: Layout) -> None:
    assert layout.get() == (200, "hello")
    assert layout.get("nowhere/")[0] == 404
    assert layout.get("upload/", body=b"x" * 900_000) == (200, "900000")  # within NGiNX' client_max_body_size
    status, lines = layout.get("stream/")
    assert (status, lines.splitlines()[-1]) == (200, "line 999")


def test_static_files_are_served(layout: Layout) -> None:
    status, script = layout.get("static/django_wsredis/wsredis.js")
    if layout.has_static:
        assert status == 200
        assert "class WSRedis" in script
    else:
        assert status == 404


# What cannot work says why


def test_a_prefix_that_apache_strips_is_named_in_the_log(shared_redis: RedisServer, database: object) -> None:
    def start(layout: Layout) -> None:
        address = f"127.0.0.1:{free_port()}"
        run_uwsgi(layout, find_uwsgi(), "--listen", address)
        options = ("--upstream", address, "--ws-upstream", address)
        run_proxy(
            layout,
            "apache",
            *options,
            change=lambda text: text.replace(f'"http://{address}/ws/"', f'"http://{address}/"'),
        )

    with running(start, shared_redis) as layout:
        with layout.raw("news" + LISTEN) as raw:
            assert raw.answer.status == 404
        line = layout.sites[0].wait_for("A websocket is asked for").string
        assert "at '/news'" in line
        assert "WEBSOCKET_URL is '/ws/'" in line


def waitress(layout: Layout) -> None:
    if importlib.util.find_spec("waitress") is None:
        missing("no waitress")
    listen = f"--listen=127.0.0.1:{layout.port}"
    chdir = f"--chdir={ROOT}"
    layout.run_site("env", chdir, sys.executable, "-m", "waitress", listen, "tests.project.wsgi:application")


def uwsgi_https_socket(layout: Layout) -> None:
    """uWSGI with TLS in its workers, instead of in its router."""
    program = find_uwsgi("--https-socket")
    cert, key = certificate(layout.folder)
    layout.tls = trust(cert)
    (ini,) = layout.emit("uwsgi", "--listen", f"127.0.0.1:{layout.port}")
    ini.write_text(re.sub(r"(?m)^http-socket = (.*)$", rf"https-socket = \1,{cert},{key}", ini.read_text()))
    layout.run_site(program, "--ini", ini)


def uwsgi_without_threads(layout: Layout) -> None:
    (ini,) = layout.emit("uwsgi", "--listen", f"127.0.0.1:{layout.port}", "--threads", "4")
    ini.write_text(re.sub(r"(?m)^(enable-threads|threads) = .*$", "", ini.read_text()))
    layout.run_site(find_uwsgi(), "--ini", ini)


def gunicorn_with_a_certificate(layout: Layout) -> None:
    cert, key = certificate(layout.folder)
    layout.tls = trust(cert)
    (config,) = layout.emit("gunicorn", "--listen", f"127.0.0.1:{layout.port}")
    config.write_text(f"{config.read_text()}certfile, keyfile = '{cert}', '{key}'\n")
    layout.run_site(sys.executable, "-m", "gunicorn", "-c", config)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (waitress, "waitress is not known to give up its sockets; docs/deploy.rst has what works"),
        (uwsgi_https_socket, "--https-socket speaks no plain stream; use --http"),
        (uwsgi_without_threads, "use --enable-threads or --gevent"),
        (gunicorn_with_a_certificate, "--certfile makes it speak TLS itself; use a proxy"),
    ],
    ids=["waitress", "uWSGI's https-socket", "uWSGI without threads", "gunicorn's certfile"],
)
def test_a_host_that_cannot_detach_answers_503_and_says_once_what_to_do(
    shared_redis: RedisServer, database: object, start: Callable[[Layout], None], said: str
) -> None:
    with running(start, shared_redis) as layout:
        for _ in range(10):
            with layout.raw("layout" + LISTEN) as raw:
                assert raw.answer.status == 503
        assert layout.get() == (200, "hello")
        lines = [line for line in layout.lines if "websockets cannot be served here" in line]
        assert 1 <= len(lines) <= 2  # in each worker
        assert said in lines[0]
