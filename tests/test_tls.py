"""wss and https without a proxy: runwsserver with a certificate of its own."""

from __future__ import annotations

import http.client
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close, Opcode
from websockets.sync.client import ClientConnection, connect

from django_wsredis import publish

from .event_source import EventSource, post
from .rawsocket import RawSocket, close, masked, more, reset, text
from .servers import Site, missing, run_manage, wait_until
from .test_resilience import settled
from .tls import trust

SERVER = "runwsserver"
NEWS = "news?subscribe-broadcast"
ECHO = "news?subscribe-broadcast&publish-broadcast&echo"
NOBODY = "unix:///nonexistent/redis.sock"
MIB = 1024 * 1024
SETTINGS = {
    "ALLOWED_CHANNELS": "tests.project.callbacks.everything",
    "MAX_MESSAGE_BYTES": 8 * MIB,
    "MAX_OUTBOX_BYTES": 64 * MIB,
}


def openssl(*arguments: str) -> None:
    if not (program := shutil.which("openssl")):
        missing("no openssl to make a certificate with")
    subprocess.run([program, *arguments], check=True, capture_output=True)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the files of a certificate for 127.0.0.1 that nobody else knows, and of its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    openssl("req", "-x509", *options, *names, "-keyout", str(key), "-out", str(cert))
    return cert, key


@pytest.fixture
def trusting(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return trust(certificate[0])


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def either(request: pytest.FixtureRequest, trusting: ssl.SSLContext) -> ssl.SSLContext:
    """A context of each version."""
    trusting.minimum_version = trusting.maximum_version = request.param
    return trusting


@pytest.fixture
def secure(start: Callable[..., Site], certificate: tuple[Path, Path]) -> Callable[..., Site]:
    """Start a server with the certificate."""

    def secure(*arguments: str, **wsredis: Any) -> Site:
        cert, key = map(str, certificate)
        site = start("--certfile", cert, "--keyfile", key, *arguments, settings={"WSREDIS": {**SETTINGS, **wsredis}})
        assert site.url == f"https://127.0.0.1:{site.port}"
        return site

    return secure


def wss(site: Site, tls: ssl.SSLContext, path: str = NEWS, **options: Any) -> ClientConnection:
    given = {"compression": None, "ping_interval": None, "proxy": None, "max_size": None, "ssl": tls}
    return connect(f"wss://127.0.0.1:{site.port}/ws/{path}", **{**given, **options})


def raw(site: Site, tls: ssl.SSLContext, path: str = NEWS) -> RawSocket:
    opened = RawSocket(site.port, path, tls=tls)
    assert opened.answer.status == 101
    return opened


def get(site: Site, tls: ssl.SSLContext, path: str = "/") -> tuple[int, str]:
    with closing(http.client.HTTPSConnection("127.0.0.1", site.port, context=tls, timeout=20)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def assert_no_news(site: Site, start: int) -> None:
    assert [line for line in site.lines[start:] if re.search("WARN|ERROR|Traceback|Exception", line)] == []


# What goes through


def test_an_event_stream_begins_lives_and_ends(secure: Callable[..., Site], either: ssl.SSLContext) -> None:
    site = secure(PING_INTERVAL=0.5, MAX_OUTBOX_BYTES=MIB)
    with EventSource(site.port, NEWS, tls=either) as source, EventSource(site.port, NEWS, tls=either) as slow:
        assert source.key
        origin = {"Origin": site.url}
        assert post(site.port, ECHO, "x" * MIB, origin, tls=either) == 204
        assert source.message() == "x" * MIB
        while "(1013): it is too slow" not in site.output:
            publish(b"y" * MIB, facility="news", broadcast=True)
            assert source.message() == b"y" * MIB
        assert slow.closed_with() == 1013
        assert source.line() == b":"
        assert site.stop() == 0
        assert source.closed_with() == 1001
    assert "Traceback" not in site.output


def test_messages_of_all_sizes_come_back_whole(secure: Callable[..., Site], either: ssl.SSLContext) -> None:
    site = secure()
    noise = random.Random(7)
    sizes = [0, 1, 125, 126, 16_383, 16_384, 16_385, 65_535, 65_536, 100_000, MIB, 5_000_000, 0, 5_000_000]
    with wss(site, either, ECHO) as websocket:
        for size in sizes:
            message = noise.randbytes(size)
            websocket.send(message)
            assert websocket.recv(20) == message
        websocket.send("€" * 500_000)
        assert websocket.recv(20) == "€" * 500_000


def test_fragments_are_put_together(secure: Callable[..., Site], either: ssl.SSLContext) -> None:
    site = secure()
    with raw(site, either, ECHO) as one:
        for frame in (text("one ", fin=False), more(b"x" * 40_000), more(b"", fin=False), more(b" two", fin=True)):
            one.send(frame)
        assert one.message() == "one " + "x" * 40_000 + " two"
        one.send(*(text(str(number)) for number in range(500)))  # many frames in few records
        assert [one.message() for _ in range(500)] == [str(number) for number in range(500)]


def test_many_messages_at_once_cross_both_ways(secure: Callable[..., Site], either: ssl.SSLContext) -> None:
    site = secure()
    with wss(site, either, ECHO, max_queue=None) as websocket:
        messages = [f"{number} " + "x" * (number * 97 % 30_000) for number in range(400)]
        for message in messages:
            websocket.send(message)
        assert [websocket.recv(20) for _ in messages] == messages


def test_pages_are_served_and_know_that_they_are_secure(secure: Callable[..., Site], trusting: ssl.SSLContext) -> None:
    site = secure()
    with closing(http.client.HTTPSConnection("127.0.0.1", site.port, context=trusting, timeout=20)) as connection:
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello"
        kept = connection.sock
        connection.request("GET", "/stream/")
        assert connection.getresponse().read().startswith(b"line 0\n")
        assert connection.sock is kept is not None
    with wss(site, trusting, origin=f"https://127.0.0.1:{site.port}") as websocket:  # its own scheme, or 403
        publish("hello", facility="news", broadcast=True)
        assert websocket.recv(10) == "hello"


# Slow peers


def test_a_slow_reader_catches_up_with_every_byte(secure: Callable[..., Site], either: ssl.SSLContext) -> None:
    site = secure()
    noise = random.Random(11)
    messages = [noise.randbytes(noise.choice([10, 3000, 16_384, 700_000])) for _ in range(60)]
    with raw(site, either) as slow, wss(site, either, max_queue=None) as quick:
        for message in messages:
            publish(message, facility="news", broadcast=True)
        assert [quick.recv(20) for _ in messages] == messages
        for message in messages[:30]:
            assert slow.message() == message
        publish(b"one more", facility="news", broadcast=True)  # while there still is an outbox
        assert [slow.message() for _ in messages[30:]] == messages[30:]
        assert slow.message() == b"one more"


def test_one_that_is_too_slow_is_told_1013_behind_whole_frames(
    secure: Callable[..., Site], either: ssl.SSLContext
) -> None:
    site = secure(MAX_OUTBOX_BYTES=256 * 1024, PING_TIMEOUT=60)
    with raw(site, either) as slow:
        for number in range(150):
            publish(f"{number} " + "x" * 100_000, facility="news", broadcast=True)

        def is_closed() -> bool:
            slow.send(masked(Opcode.PONG))
            return "closed (1013)" in site.output

        wait_until(is_closed, 15, "closing the slow socket")
        *frames, last = slow.frames_until_fin()
        assert Close.parse(last.data).code == 1013
        numbers = [int(bytes(frame.data).split()[0]) for frame in frames]
        assert numbers == list(range(len(numbers)))
        assert {len(frame.data) for frame in frames} <= {100_002, 100_003, 100_004}


# Ends


def test_each_side_closes_with_its_code_and_a_goodbye(secure: Callable[..., Site], either: ssl.SSLContext) -> None:
    site = secure()
    with wss(site, either, ECHO) as websocket:
        websocket.close(1000)
        assert websocket.close_code == 1000
    for sent, code in ((close(3001), 3001), (masked(Opcode.TEXT, b"\xff"), 1007), (masked(Opcode(0), b"x"), 1002)):
        with raw(site, either, ECHO) as one:
            one.socket.suppress_ragged_eofs = False  # so that an end without a close_notify is an error
            one.send(sent)
            assert one.closed_with().code == code


def test_what_comes_after_the_servers_goodbye_loses_nothing_of_it(
    secure: Callable[..., Site], either: ssl.SSLContext
) -> None:
    site = secure()
    with raw(site, either, ECHO) as one:
        one.send(masked(Opcode.TEXT, b"\xff"), *[text("x" * 10_000)] * 20)
        assert one.closed_with().code == 1007


def leave_with_a_reset(one: RawSocket) -> None:
    reset(one.socket)


def leave_without_a_goodbye(one: RawSocket) -> None:
    with socket.socket(fileno=one.socket.detach()):
        pass


def leave_in_the_middle_of_a_frame(one: RawSocket) -> None:
    one.send(text("x" * 5000)[:100])
    leave_without_a_goodbye(one)


def leave_in_the_middle_of_a_record(one: RawSocket) -> None:
    with socket.socket(fileno=one.socket.detach()) as bare:
        bare.sendall(b"\x17\x03\x03\x40\x00abc")


def leave_with_nonsense(one: RawSocket) -> None:
    with socket.socket(fileno=one.socket.detach()) as bare:
        bare.sendall(b"GET / HTTP/1.1\r\n\r\n")


def leave_with_unread_messages(one: RawSocket) -> None:
    publish("x" * 4_000_000, facility="news", broadcast=True)
    leave_with_a_reset(one)


@pytest.mark.parametrize(
    "leave",
    [
        leave_with_a_reset,
        leave_without_a_goodbye,
        leave_in_the_middle_of_a_frame,
        leave_in_the_middle_of_a_record,
        leave_with_nonsense,
        leave_with_unread_messages,
    ],
)
def test_an_abrupt_end_leaves_nothing_behind_and_is_no_news(
    secure: Callable[..., Site], either: ssl.SSLContext, leave: Callable[[RawSocket], None]
) -> None:
    site = secure()
    with wss(site, either):
        start, descriptors = len(site.lines), site.descriptors()
        for one in [raw(site, either, ECHO) for _ in range(10)]:
            leave(one)
        wait_until(lambda: site.descriptors() <= descriptors, what="the end of the descriptors")
    assert_no_news(site, start)


def speak_no_tls(client: socket.socket) -> None:
    client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    try:
        client.recv(100)
    except ConnectionResetError:
        pass


def say_nothing(client: socket.socket) -> None:
    pass


def break_off(client: socket.socket) -> None:
    client.sendall(b"\x16\x03\x01\x02\x00\x01")


@pytest.mark.parametrize("visit", [speak_no_tls, say_nothing, break_off])
def test_who_does_not_finish_a_tls_handshake_is_no_news(
    secure: Callable[..., Site], trusting: ssl.SSLContext, visit: Callable[[socket.socket], None]
) -> None:
    site = secure()
    assert get(site, trusting) == (200, "hello")
    start, descriptors = len(site.lines), settled(site.descriptors)
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", site.port), timeout=10) as client:
            visit(client)
    wait_until(lambda: site.descriptors() <= descriptors, what="the end of the descriptors")
    assert_no_news(site, start)
    assert get(site, trusting) == (200, "hello")


def test_old_versions_are_refused(secure: Callable[..., Site], trusting: ssl.SSLContext) -> None:
    site = secure()
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        trusting.minimum_version, trusting.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    trusting.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as client, pytest.raises(ssl.SSLError):
        trusting.wrap_socket(client, server_hostname="127.0.0.1")


# Many, and reloads


def test_idle_sockets_cost_neither_threads_nor_greenlets(secure: Callable[..., Site], trusting: ssl.SSLContext) -> None:
    site = secure()

    def greenlets() -> int:
        return int(get(site, trusting, "/greenlets/")[1])

    with raw(site, trusting):
        pass
    at_rest, threads, descriptors = greenlets(), settled(site.threads), settled(site.descriptors)
    with ExitStack() as stack:
        opened = [stack.enter_context(raw(site, trusting)) for _ in range(200)]
        wait_until(lambda: greenlets() <= at_rest)
        assert site.threads() <= threads
        publish("to all", facility="news", broadcast=True)
        assert [one.message() for one in opened] == ["to all"] * 200
        os.kill(site.popen.pid, signal.SIGHUP)
        assert {one.closed_with().code for one in opened} == {1012}
    site.wait_for("Reloaded: ")
    wait_until(lambda: site.descriptors() <= descriptors, what="a worker as at the beginning")
    with wss(site, trusting) as websocket:
        os.kill(site.popen.pid, signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
    assert site.popen.wait(10) == 0


def test_no_request_is_lost_in_a_reload(secure: Callable[..., Site], trusting: ssl.SSLContext) -> None:
    site = secure("--workers", "2", "--drain", "1")
    with closing(http.client.HTTPSConnection("127.0.0.1", site.port, context=trusting, timeout=20)) as connection:
        os.kill(site.popen.pid, signal.SIGHUP)

        def has_reloaded() -> bool:
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"hello"
            return "Reloaded: " in site.output

        wait_until(has_reloaded, 20)
        for _ in range(100):
            has_reloaded()


# Certificates


def other_key(folder: Path, certificate: tuple[Path, Path]) -> tuple[Path, Path]:
    openssl("genrsa", "-out", str(folder / "other.pem"), "2048")
    return certificate[0], folder / "other.pem"


def encrypted_key(folder: Path, certificate: tuple[Path, Path]) -> tuple[Path, Path]:
    target = folder / "locked.pem"
    openssl("ec", "-in", str(certificate[1]), "-aes128", "-passout", "pass:secret", "-out", str(target))
    return certificate[0], target


def no_file(folder: Path, certificate: tuple[Path, Path]) -> tuple[Path, Path]:
    return folder / "nowhere.pem", certificate[1]


def garbage(folder: Path, certificate: tuple[Path, Path]) -> tuple[Path, Path]:
    (folder / "garbage.pem").write_text("no certificate")
    return folder / "garbage.pem", certificate[1]


@pytest.mark.parametrize("make", [other_key, encrypted_key, no_file, garbage])
@pytest.mark.parametrize("settings", [{}, {"DEBUG": True}], ids=["plain", "with the reloader"])
def test_a_certificate_that_is_none_is_said_in_one_line(
    folder: Path, certificate: tuple[Path, Path], make: Callable[..., tuple[Path, Path]], settings: dict[str, Any]
) -> None:
    cert, key = make(folder, certificate)
    arguments = ["--certfile", str(cert), "--keyfile", str(key), "--workers", "1"]
    result = run_manage("runwsserver", "0", *arguments, redis_url=NOBODY, settings=settings)
    assert result.returncode == 1
    (said,) = [line for line in result.stderr.splitlines() if "CommandError" in line]
    # a file that is not there is named alone; else either may be to blame
    files = f"{cert} and {key}" if cert.exists() else f"{cert}: No such file or directory."
    assert said.startswith(f"CommandError: Cannot speak TLS with {files}")
    assert "Traceback" not in result.stderr


def test_a_reload_with_a_broken_certificate_changes_nothing(
    start: Callable[..., Site], certificate: tuple[Path, Path], trusting: ssl.SSLContext, folder: Path
) -> None:
    mine = [shutil.copy(path, folder) for path in certificate]
    site = start("--certfile", mine[0], "--keyfile", mine[1])
    Path(mine[0]).write_text("no certificate")
    os.kill(site.popen.pid, signal.SIGHUP)
    site.wait_for("Reload given up")
    assert "Cannot speak TLS with" in site.output
    assert get(site, trusting) == (200, "hello")
