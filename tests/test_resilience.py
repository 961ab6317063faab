"""What goes wrong: many sockets, slow and vanished peers, a Redis that goes away. Nothing leaks, and all recovers."""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close, Opcode
from websockets.sync.client import ClientConnection

from django_wsredis import fetch_message, publish

from .conftest import DATABASE
from .rawsocket import RawSocket, masked, text
from .servers import RedisServer, Site, may_open, wait_until

MANY = 1500
FILES = MANY + 500

NEWS = "news?subscribe-broadcast"
TALK = "news?subscribe-broadcast&publish-broadcast"
CHANNEL = "wsredis:broadcast:news"
REQUEST = (
    "GET /ws/{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
GRANT = {"ALLOWED_CHANNELS": "tests.project.callbacks.everything", "PING_INTERVAL": 60}


@pytest.fixture(scope="module", autouse=True)
def _many_files() -> Iterator[None]:
    with may_open(FILES):
        yield


@pytest.fixture(scope="module", params=["runwsserver", "runserver"])
def running(request: pytest.FixtureRequest, shared_redis: RedisServer, database: object) -> Iterator[tuple[Site, int]]:
    """A server that has opened all that it keeps open (threads, listener, Redis), and how many files those are."""
    with shared_redis.client() as client:
        client.flushall()  # other modules may have kept messages where these tests listen
    site = Site(request.param, "--noreload", database=DATABASE, redis_url=shared_redis.url, settings={"WSREDIS": GRANT})
    with override_settings(WSREDIS={"URL": shared_redis.url}):
        warm_up(site)
        yield site, settled(site.descriptors)
    assert site.stop() in (0, -signal.SIGTERM)
    assert "Traceback" not in site.output


@pytest.fixture
def site(running: tuple[Site, int]) -> Site:
    """That server, after the sockets of the tests before have gone."""
    site, files_at_rest = running
    wait_until(lambda: site.descriptors() <= files_at_rest, 20, f"only {files_at_rest} open files")
    return site


@pytest.fixture
def start(own_redis: RedisServer, start_site: Callable[..., Site]) -> Iterator[Callable[..., Site]]:
    """Start runwsserver with other settings and a Redis of its own, which is this process's too."""

    def start(redis_url: str = own_redis.url, **settings: Any) -> Site:
        return start_site("runwsserver", redis_url=redis_url, settings={"WSREDIS": {**GRANT, **settings}})

    with override_settings(WSREDIS={"URL": own_redis.url}):
        yield start


def warm_up(site: Site) -> None:
    """Have as many requests at once as the server has threads, so that all of them exist."""
    getters = [threading.Thread(target=site.get, args=("slow/300/",)) for _ in range(16)]
    for getter in getters:
        getter.start()
    for getter in getters:
        getter.join()
    with site.connect(NEWS):
        pass


def settled(count: Callable[[], int], looks: int = 50) -> int:
    """Return a number once it has stayed the same for so many looks at it, 100 a second."""
    seen: deque[int] = deque(maxlen=looks)

    def is_settled() -> bool:
        seen.append(count())
        return len(seen) == seen.maxlen and len(set(seen)) == 1

    wait_until(is_settled, 30)
    return seen[-1]


def open_raw(site: Site, path: str = NEWS) -> RawSocket:
    """Return an open websocket that costs a descriptor, and neither a thread nor a reader."""
    raw = RawSocket(site.port, path)
    assert raw.answer.status == 101, raw.answer
    return raw


@contextmanager
def many_open(site: Site, count: int, path: str = NEWS) -> Iterator[list[RawSocket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(open_raw(site, path)) for _ in range(count)]


def receive(websocket: ClientConnection, count: int) -> list[Any]:
    return [websocket.recv(10) for _ in range(count)]


def refusal(site: Site, path: str = NEWS) -> Any:
    """Return the answer to a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused, site.connect(path, open_timeout=20):
        pass
    return refused.value.response


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def greenlets(site: Site) -> int:
    return int(site.get("greenlets/")[1])


def wait_for_lines(site: Site, wanted: str, count: int = 1, seconds: float = 15) -> None:
    wait_until(lambda: sum(wanted in line for line in site.lines) >= count, seconds, f"{count} × {wanted!r}")


# Many sockets


def test_a_broadcast_reaches_1500_sockets_of_one_process(site: Site) -> None:
    with many_open(site, MANY) as sockets:
        assert site.descriptors() > 1024
        assert publish("to all", facility="news", broadcast=True) == 1
        assert [raw.message() for raw in sockets] == ["to all"] * MANY
    wait_until(lambda: site.descriptors() < 100, 20, "the end of all sockets")


def test_a_process_has_one_redis_connection_whatever_its_sockets_do(site: Site, shared_redis: RedisServer) -> None:
    with shared_redis.client() as redis, site.connect(NEWS) as listener:
        before = len(redis.client_list())
        with many_open(site, 100, TALK) as sockets:
            for raw in sockets:
                raw.send(text("hi"))
            assert receive(listener, 100) == ["hi"] * 100
            assert len(redis.client_list()) == before
            assert len(shared_redis.subscriber_clients()) == 1


def test_a_socket_costs_neither_a_thread_nor_a_greenlet(site: Site) -> None:
    threads_at_rest, greenlets_at_rest = site.threads(), greenlets(site)
    with many_open(site, 300):
        assert greenlets(site) <= greenlets_at_rest
        wait_until(lambda: site.threads() <= threads_at_rest, 10, "as many threads as at rest")


# Peers that vanish


def vanish_when_open(site: Site) -> None:
    for raw in [open_raw(site) for _ in range(300)]:
        raw.abort()


def vanish_in_a_frame(site: Site) -> None:
    for end in [RawSocket.abort] * 50 + [RawSocket.__exit__] * 50:
        raw = open_raw(site, TALK)
        raw.send(text("x" * 5000)[:100])
        end(raw)


def vanish_in_the_handshake(site: Site) -> None:
    for number in range(100):
        sock = socket.create_connection(("127.0.0.1", site.port), timeout=15)
        sock.sendall(REQUEST.format(path=NEWS, port=site.port).encode()[: 1 + 2 * number])
        if number % 2:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a RST
        sock.close()
        if not number % 5:
            site.get()  # the development server lets no more than 10 wait to be accepted


@pytest.mark.parametrize("vanish", [vanish_when_open, vanish_in_a_frame, vanish_in_the_handshake])
def test_peers_that_vanish_leave_nothing_behind(site: Site, vanish: Callable[[Site], None]) -> None:
    with site.connect(NEWS) as witness:
        threads, descriptors = site.threads(), site.descriptors()
        vanish(site)
        wait_until(lambda: site.descriptors() <= descriptors, 10, f"{descriptors} open files again")
        wait_until(lambda: site.threads() <= threads, 10, f"{threads} threads again")
        publish("still here", facility="news", broadcast=True)
        assert witness.recv(10) == "still here"

        before = cpu_seconds(site.pid)
        time.sleep(0.5)  # nothing to wait for: a loop that spins would use all of it
        assert cpu_seconds(site.pid) - before < 0.25


def test_a_killed_client_frees_its_descriptor_at_once(site: Site) -> None:
    descriptors = site.descriptors()
    code = (
        f"import socket; s = socket.create_connection(('127.0.0.1', {site.port}))\n"
        f"s.sendall({REQUEST.format(path=NEWS, port=site.port).encode()!r}); s.recv(4096); print('open', flush=True)\n"
        "s.recv(1)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"open\n"
        assert site.descriptors() > descriptors
        client.kill()
    wait_until(lambda: site.descriptors() <= descriptors, 3, "the end of the socket")


# Peers that are slow


def test_a_peer_that_does_not_read_is_closed_and_costs_the_others_nothing(
    start: Callable[..., Site], own_redis: RedisServer
) -> None:
    site = start(MAX_OUTBOX_BYTES=256 * 1024, PING_TIMEOUT=60)
    batches, batch, padding = 120, 25, "x" * 8000  # 24 MB, far more than the kernel's buffers hold
    with (
        own_redis.client() as redis,
        open_raw(site) as slow,
        site.connect(NEWS, max_queue=None) as one,
        site.connect(NEWS, max_queue=None) as two,
    ):
        at_first = resident_bytes(site.pid)
        for first in range(0, batches * batch, batch):
            texts = [f"{number} {padding}" for number in range(first, first + batch)]
            with redis.pipeline(transaction=False) as pipeline:
                for sent in texts:
                    pipeline.publish(CHANNEL, sent)
                pipeline.execute()
            assert receive(one, batch) == texts
            assert receive(two, batch) == texts
        wait_for_lines(site, "closed (1013)")
        assert resident_bytes(site.pid) - at_first < 8 * 1024 * 1024

        *received, last = slow.frames_until_fin()
        assert Close.parse(last.data).code == 1013
        numbers = [int(bytes(frame.data).split()[0]) for frame in received if frame.opcode is Opcode.TEXT]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) < batches * batch


FULL_OUTBOX = {"MAX_OUTBOX_BYTES": 64 * 1024, "PING_TIMEOUT": 60}
TAKES_NOTHING = {"MAX_OUTBOX_BYTES": 256 * 1024 * 1024, "PING_TIMEOUT": 1}


@pytest.mark.parametrize("settings", [FULL_OUTBOX, TAKES_NOTHING], ids=["full outbox", "takes nothing"])
def test_a_stalled_peer_is_told_1013(
    start: Callable[..., Site], own_redis: RedisServer, settings: dict[str, Any]
) -> None:
    site = start(**settings)
    with own_redis.client() as redis, open_raw(site) as slow:
        for _ in range(100):
            redis.publish(CHANNEL, "x" * 100_000)

        def is_closed() -> bool:
            slow.send(masked(Opcode.PONG))  # it lives, so that it is not closed for its silence
            return "closed (1013)" in site.output

        wait_until(is_closed, 15, "closing the slow socket")
        last = slow.frames_until_fin()[-1]  # well before the server gives up waiting for the answer
        assert last.opcode is Opcode.CLOSE
        assert Close.parse(last.data).code == 1013
    wait_until(lambda: site.descriptors() < 40, 10, "the end of the socket")


# Redis goes away


def test_sockets_outlive_a_killed_redis(start: Callable[..., Site], own_redis: RedisServer) -> None:
    site = start()
    with site.connect(NEWS) as websocket:
        own_redis.kill()
        wait_for_lines(site, "Redis is away; sockets stay open")
        response = refusal(site)
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0

        own_redis.start()
        wait_for_lines(site, "Redis is connected", count=2)
        assert publish("again", facility="news", broadcast=True) == 1
        assert websocket.recv(10) == "again"
        with site.connect(NEWS) as newcomer:
            publish("and a newcomer", facility="news", broadcast=True)
            assert websocket.recv(10) == newcomer.recv(10) == "and a newcomer"
        assert len(own_redis.subscriber_clients()) == 1
    assert site.stop() == 0
    assert "Traceback" not in site.output


def kill_link(own_redis: RedisServer) -> None:
    """Cut the worker's connection; Redis does it before it answers, so what is published next is missed."""
    with own_redis.client() as redis:
        for client in own_redis.subscriber_clients():
            redis.execute_command("CLIENT", "KILL", "ID", client["id"])


def test_what_was_kept_while_the_worker_was_away_arrives_once(
    start: Callable[..., Site], own_redis: RedisServer
) -> None:
    site = start(EXPIRE=60)
    for round in range(3):
        facility = f"round{round}"
        with site.connect(f"{facility}?subscribe-broadcast") as websocket:
            assert publish("seen", facility=facility, broadcast=True, expire=60) == 1
            assert websocket.recv(10) == "seen"
            kill_link(own_redis)
            assert publish("missed", facility=facility, broadcast=True, expire=60) == 0
            assert websocket.recv(10) == "missed"
            wait_until(lambda f=facility: publish("live", facility=f, broadcast=True, expire=60) == 1)
            assert websocket.recv(10) == "live"
            kill_link(own_redis)  # nothing is missed now, so nothing must come twice
            wait_for_lines(site, "Redis is connected", count=3 + 2 * round)
            publish("last", facility=facility, broadcast=True)
            assert websocket.recv(10) == "last"


def test_kept_messages_stay_in_order_and_come_once_while_the_link_breaks_again_and_again(
    start: Callable[..., Site], own_redis: RedisServer
) -> None:
    site = start(EXPIRE=60)
    done = threading.Event()
    last = -1

    def publish_numbers() -> None:
        nonlocal last
        while not done.is_set():
            last += 1
            publish(str(last), facility="news", broadcast=True, expire=60)

    with site.connect(NEWS, max_queue=None) as websocket:
        publisher = threading.Thread(target=publish_numbers)
        publisher.start()
        try:
            for breaks in range(1, 11):
                kill_link(own_redis)
                wait_for_lines(site, "Redis is connected", count=1 + breaks)
        finally:
            done.set()
            publisher.join()
        received = [int(websocket.recv(10))]
        while received[-1] < last:
            received.append(int(websocket.recv(10)))
        assert received == sorted(set(received))  # each once, in order
        with pytest.raises(TimeoutError):
            websocket.recv(0.2)


def test_what_browsers_send_while_redis_is_away_is_published_later(
    start: Callable[..., Site], own_redis: RedisServer
) -> None:
    site = start()
    with site.connect(TALK) as speaker, site.connect(NEWS) as listener:
        own_redis.kill()
        wait_for_lines(site, "Redis is away; sockets stay open")
        for number in range(20):
            speaker.send(f"message {number}")
        own_redis.start()
        assert receive(listener, 20) == [f"message {number}" for number in range(20)]
        speaker.send("and now")
        assert listener.recv(10) == "and now"


def test_what_browsers_send_while_redis_refuses_writes_is_published_later(
    start: Callable[..., Site], own_redis: RedisServer
) -> None:
    site = start(EXPIRE=60)
    with site.connect(TALK) as speaker, site.connect(NEWS) as listener, own_redis.client() as redis:
        redis.config_set("min-replicas-to-write", 1)
        for number in range(20):
            speaker.send(f"message {number}")
        wait_for_lines(site, "NOREPLICAS")
        redis.config_set("min-replicas-to-write", 0)
        assert receive(listener, 20) == [f"message {number}" for number in range(20)]
        speaker.send("and now")
        assert listener.recv(10) == "and now"
    assert site.stop() == 0
    assert site.output.count("NOREPLICAS") == 1


def test_who_sends_what_redis_refuses_for_good_is_closed(start: Callable[..., Site], own_redis: RedisServer) -> None:
    site = start(EXPIRE=60)
    with site.connect(TALK) as speaker, own_redis.client() as redis:
        redis.set(CHANNEL, "no stream")
        speaker.send("hello")
        with pytest.raises(ConnectionClosed) as raised:
            speaker.recv(10)
    assert raised.value.rcvd is not None
    assert raised.value.rcvd.code == 1011
    wait_for_lines(site, "WRONGTYPE")


def test_a_server_that_stops_waits_for_redis_to_take_what_browsers_sent(
    start: Callable[..., Site], own_redis: RedisServer
) -> None:
    site = start(EXPIRE=60, DRAIN_SECONDS=15)
    with site.connect(TALK) as speaker:
        own_redis.kill()
        wait_for_lines(site, "Redis is away; sockets stay open")
        speaker.send("hello")
        site.popen.send_signal(signal.SIGTERM)
        wait_for_lines(site, "Draining")
    own_redis.start()
    assert site.popen.wait(20) == 0
    assert fetch_message(None, "news", "broadcast") == "hello"
    assert "may be lost" not in site.output


def test_a_server_that_stops_says_how_much_redis_did_not_take(
    start: Callable[..., Site], own_redis: RedisServer
) -> None:
    site = start()
    with site.connect(TALK) as speaker:
        own_redis.kill()
        wait_for_lines(site, "Redis is away; sockets stay open")
        speaker.send("one")
        speaker.send("two")
        speaker.ping().wait(10)  # they were read before it
        assert site.stop() == 0
    assert "Redis has not answered 2 messages of browsers" in site.output


PING_SECONDS = 3  # PING_INTERVAL: a link that is silent is found within it
SLOW_MACHINE_SECONDS = 3


def test_a_half_open_link_is_found_and_replaced(start: Callable[..., Site], own_redis: RedisServer) -> None:
    site = start(PING_INTERVAL=PING_SECONDS)
    with site.connect(NEWS) as websocket:
        os.kill(own_redis.process.pid, signal.SIGSTOP)
        try:
            wait_for_lines(site, "Redis does not answer", seconds=PING_SECONDS + SLOW_MACHINE_SECONDS)
            assert refusal(site).status_code == 503
        finally:
            os.kill(own_redis.process.pid, signal.SIGCONT)
        wait_for_lines(site, "Redis is connected", count=2)
        assert publish("awake", facility="news", broadcast=True) == 1
        assert websocket.recv(10) == "awake"
        wait_until(lambda: len(own_redis.subscriber_clients()) == 1, 10, "one connection")


def test_a_server_starts_without_redis_and_answers_503(
    start: Callable[..., Site], folder: Path, own_redis: RedisServer
) -> None:
    site = start(f"unix://{folder}/none.sock")
    assert site.get() == (200, "hello")
    began = time.monotonic()
    response = refusal(site)
    assert time.monotonic() - began < 8
    assert (response.status_code, "Retry-After" in response.headers) == (503, True)
    assert site.stop() == 0
    assert "Traceback" not in site.output


def test_a_channel_that_redis_refuses_is_a_503_and_mixes_up_no_replies(
    start: Callable[..., Site], own_redis: RedisServer
) -> None:
    with own_redis.client() as redis:
        rules = "on >opensesame ~* +@all resetchannels &wsredis:everywhere &wsredis:broadcast:news"
        redis.execute_command("ACL", "SETUSER", "worker", *rules.split())
    site = start(f"unix://worker:opensesame@{own_redis.socket}", EXPIRE=60)
    publish("kept", facility="news", broadcast=True, expire=60)
    publish("hidden", facility="secret", broadcast=True, expire=60)

    with site.connect(NEWS) as before:
        assert before.recv(10) == "kept"
        for number in range(3):
            assert refusal(site, "secret?subscribe-broadcast").status_code == 503
            with site.connect(NEWS) as after:
                assert after.recv(10) == (f"live {number - 1}" if number else "kept")
                publish(f"live {number}", facility="news", broadcast=True, expire=60)
                assert before.recv(10) == after.recv(10) == f"live {number}"
    assert any("refuses SUBSCRIBE" in line and "wsredis:broadcast:secret" in line for line in site.lines)
    assert "opensesame" not in site.output


# Limits


def test_a_full_worker_answers_503_until_there_is_room(start: Callable[..., Site]) -> None:
    site = start(MAX_SOCKETS=3)
    with site.connect(NEWS), site.connect(NEWS):
        with site.connect(NEWS):
            response = refusal(site)
            assert (response.status_code, "Retry-After" in response.headers) == (503, True)

        def has_room() -> bool:
            try:
                with site.connect(NEWS):
                    return True
            except InvalidStatus:
                return False

        wait_until(has_room, 5, "room for one more")
    assert "the worker is full" in site.output


def test_a_worker_raises_its_soft_limit_of_open_files(start: Callable[..., Site]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        site = start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(site.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    with many_open(site, 300) as sockets:
        publish("to all", facility="news", broadcast=True)
        assert [raw.message() for raw in sockets] == ["to all"] * 300
