"""The testing kit's client, its live server, and the fixtures, in this process."""

from __future__ import annotations

import os
import pickle
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, override_settings
from websockets.sync.server import ServerConnection, serve

import django_wsredis.testing
from django_wsredis import connections, fetch_message, history, publish
from django_wsredis.conf import get_settings
from django_wsredis.testing import HandshakeRefused, LiveServer, SocketClosed, WebSocketClient, broker

from .servers import find_redis, may_open, wait_until
from .test_tls import certificate  # noqa: F401  a fixture
from .tls import trust

NEWS = "news?subscribe-broadcast"
ECHO = "news?subscribe-broadcast&publish-broadcast&echo"
TALKING = {"ALLOWED_CHANNELS": "tests.project.callbacks.everything"}

Connect = Callable[..., WebSocketClient]


@pytest.fixture(scope="module", autouse=True)
def _redis_is_there() -> None:
    find_redis()


@pytest.fixture
def echo(websocket_client: Connect) -> Iterator[WebSocketClient]:
    """A socket that hears what it says."""
    with override_settings(WSREDIS=TALKING):
        yield websocket_client(ECHO)


def test_the_public_names_exist_and_are_documented() -> None:
    for name in django_wsredis.testing.__all__:
        assert getattr(django_wsredis.testing, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        django_wsredis.testing.nonsense  # noqa: B018


# The client


def test_texts_bytes_and_json_come_as_they_are_sent(echo: WebSocketClient) -> None:
    for message in ("hello", "", b"\x00\xff", "ü" * 100_000):
        echo.send(message)
        assert echo.receive() == message
    for value in ({"a": [1, None, "ü"]}, "a text", 7, None):
        echo.send_json(value)
        assert echo.receive_json() == value
    echo.send("no json")
    with pytest.raises(ValueError, match="'no json' is no JSON"):
        echo.receive_json()


def test_waiting_for_what_does_not_come_is_a_timeout(echo: WebSocketClient) -> None:
    with pytest.raises(TimeoutError, match=r"nothing came from ws://localhost:\d+/ws/news\S+ within 0.05 s"):
        echo.receive(0.05)
    echo.receive_nothing(0.05)
    echo.send("hello")
    with pytest.raises(AssertionError, match=r"'hello' came from ws://\S+, where nothing should"):
        echo.receive_nothing(10)
    echo.send("hello")
    with pytest.raises(AssertionError, match=r"'hello' came from ws://\S+, where its close should"):
        echo.receive_close()
    assert echo.close_code is None


def test_its_close_is_answered(echo: WebSocketClient) -> None:
    echo.close(4000, "enough")
    echo.close()
    assert echo.close_code == 4000
    for step in (echo.receive, lambda: echo.send("hello"), lambda: echo.receive_nothing(0.1)):
        with pytest.raises(SocketClosed) as closed:
            step()
        assert closed.value.code == 4000
    assert echo.receive_close() == 4000


def test_the_server_s_close_is_told(websocket_client: Connect) -> None:
    socket = websocket_client(NEWS)
    socket.send("hello")
    assert socket.receive_close() == socket.close_code == 1003
    with pytest.raises(SocketClosed, match="the socket is closed with 1003: this socket only listens"):
        socket.receive()
    with pytest.raises(SocketClosed):
        socket.send("hello")


def test_the_subprotocol_is_told(websocket_client: Connect) -> None:
    assert websocket_client(NEWS).subprotocol is None
    socket = websocket_client(NEWS, subprotocols=["nonsense", "wsredis.v1"])
    assert socket.subprotocol == "wsredis.v1"
    assert socket.receive_json()["type"] == "ack"


def test_who_is_logged_in_at_django_s_client_is_so_here(websocket_client: Connect) -> None:
    client = Client()
    client.force_login(User.objects.get(username="alice"))
    mine = websocket_client("news?subscribe-user&subscribe-session", client=client)
    others = websocket_client(NEWS)
    publish("for alice", facility="news", users=["alice"])
    publish("for the session", facility="news", sessions=[client.session.session_key])
    publish("for all", facility="news", broadcast=True)
    assert [mine.receive(), mine.receive()] == ["for alice", "for the session"]
    assert others.receive() == "for all"
    client.logout()
    assert mine.receive_close() == 4401


@pytest.mark.parametrize(
    ("path", "options", "status", "said"),
    [
        ("news?subscribe-user", {}, 403, "the visitor has no channel of subscribe-user; is it logged in?"),
        ("news", {}, 400, "the query asks for nothing"),
        ("/ws/", {}, 404, "'' is no facility"),
        (NEWS, {"origin": "https://evil.example"}, 403, "evil.example"),
        (NEWS, {"origin": None}, 403, "Origin"),
    ],
)
@override_settings(WSREDIS={"REQUIRE_ORIGIN": True})
def test_a_refusal_has_its_status_and_what_was_logged(
    websocket_client: Connect, path: str, options: dict[str, Any], status: int, said: str
) -> None:
    websocket_client(NEWS)  # a page of the same site is let in
    with pytest.raises(HandshakeRefused) as refused:
        websocket_client(path, **options)
    assert refused.value.status == status
    assert said in refused.value.logged
    assert f" was answered with {status} {HTTPStatus(status).phrase}: {status} /ws/" in str(refused.value)
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)


def test_a_close_can_be_told_by_another_process() -> None:
    again = pickle.loads(pickle.dumps(SocketClosed(4001, "why")))
    assert (again.code, again.reason, str(again)) == (4001, "why", "the socket is closed with 4001: why")


def redirect(connection: ServerConnection, request: Any) -> Any:
    response = connection.respond(302, "")
    response.headers["Location"] = "/elsewhere"
    return response


def test_a_redirection_is_a_refusal_as_in_browsers() -> None:
    with serve(lambda connection: None, "127.0.0.1", 0, process_request=redirect) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        with pytest.raises(HandshakeRefused, match="was answered with 302 Found: the log of the server says why"):
            WebSocketClient(f"ws://127.0.0.1:{port}/")
        server.shutdown()
        thread.join()


def test_an_answer_that_is_none_is_an_error() -> None:
    with create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        connected = pool.submit(WebSocketClient, f"ws://127.0.0.1:{server.getsockname()[1]}/")
        connection, _ = server.accept()
        with connection:
            connection.recv(1)
            connection.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")
        with pytest.raises(ConnectionError, match=r"ws://\S+ gave no sound answer: "):
            connected.result()


def test_a_path_alone_is_the_live_server_s(websocket_server: LiveServer) -> None:
    with WebSocketClient(NEWS) as one, WebSocketClient(f"/ws/{NEWS}") as two:
        assert one.url == two.url == websocket_server.websocket_url(NEWS)
    assert one.close_code == 1000


def test_without_a_live_server_a_path_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no live server runs in this process: give a whole URL"):
        WebSocketClient(NEWS)


def test_nobody_there_is_an_error_and_leaves_no_thread() -> None:
    with pytest.raises(ConnectionRefusedError):
        WebSocketClient("ws://127.0.0.1:1/")
    assert "wsredis-clients" not in [thread.name for thread in threading.enumerate()]


def test_tls_is_spoken(certificate: tuple[Path, Path]) -> None:  # noqa: F811
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def answer(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with serve(answer, "127.0.0.1", 0, ssl=context) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        with WebSocketClient(f"wss://127.0.0.1:{port}/", tls=trust(certificate[0])) as socket:
            for number in range(500):
                socket.send(str(number))
            assert [socket.receive() for _ in range(500)] == [str(number) for number in range(500)]
        server.shutdown()
        thread.join()


@override_settings(WSREDIS={"PING_INTERVAL": 0.2, "PING_TIMEOUT": 5})
def test_pings_are_answered_while_nobody_receives(websocket_client: Connect) -> None:
    socket = websocket_client(NEWS)
    for number in range(100):
        publish(str(number), facility="news", broadcast=True)
    wait_until(lambda: connections().sockets[0].round_trip_ms is not None, what="a pong")
    assert [socket.receive() for _ in range(100)] == [str(number) for number in range(100)]


# The live server


def test_any_number_of_sockets_costs_one_thread_of_clients(websocket_client: Connect) -> None:
    def clients() -> int:
        return sum(thread.name == "wsredis-clients" for thread in threading.enumerate())

    with may_open(2500), ThreadPoolExecutor(8) as pool:
        sockets = list(pool.map(websocket_client, [NEWS] * 500))
        assert clients() == 1
        publish("hello", facility="news", broadcast=True)
        assert {socket.receive() for socket in sockets} == {"hello"}


def test_redis_is_empty_and_none_of_the_project_s(wsredis_broker: str, websocket_client: Connect) -> None:
    with override_settings(WSREDIS={"URL": "redis://127.0.0.1:1/0", "HISTORY": {"n*": {"messages": 9, "seconds": 9}}}):
        assert get_settings().url == wsredis_broker
        assert history(facility="news", broadcast=True).messages == []
        publish("kept", facility="news", broadcast=True)
        assert websocket_client(NEWS).receive() == "kept"
        assert [kept.data for kept in history(facility="news", broadcast=True).messages] == ["kept"]
        broker.empty()
        assert history(facility="news", broadcast=True).messages == []


def test_nobody_else_s_redis_is_emptied(configured: Any) -> None:
    publish("kept", facility="news", broadcast=True, expire=60)
    with pytest.raises(AssertionError, match="not somebody else's Redis"):
        broker.empty()
    with configured.client() as client:
        assert client.exists("wsredis:broadcast:news")


def test_a_change_of_settings_is_a_restart(websocket_client: Connect) -> None:
    before = websocket_client(NEWS)
    same = websocket_client(NEWS)
    with override_settings(DEBUG=True):  # which changes nothing of ours here
        same.receive_nothing(0.05)
    with override_settings(WSREDIS={"MAX_SOCKETS": 1, **TALKING}):
        assert before.receive_close() == same.receive_close() == 1012
        only = websocket_client(ECHO)
        with pytest.raises(HandshakeRefused, match="the worker is full: it has 1 sockets"):
            websocket_client(NEWS)
        only.send("hello")
        assert only.receive() == "hello"
    assert only.receive_close() == 1012
    websocket_client(NEWS)


def test_settings_that_are_wrong_are_told_and_end_nothing(websocket_client: Connect) -> None:
    socket = websocket_client(NEWS)
    with override_settings(WSREDIS={"NONSENSE": 1}):
        with pytest.raises(ImproperlyConfigured, match="WSREDIS has an unknown key 'NONSENSE'"):
            websocket_client(NEWS)
    publish("hello", facility="news", broadcast=True)
    assert socket.receive() == "hello"


def test_pages_come_from_the_same_server(websocket_server: LiveServer, websocket_client: Connect) -> None:
    socket = websocket_client("news?subscribe-broadcast")
    urllib.request.urlopen(f"{websocket_server.url}/publish/?message=hello&facility=news").close()
    assert socket.receive() == "hello"


def test_ended_loops_leave_no_descriptor(websocket_server: LiveServer) -> None:
    def descriptors() -> int:
        websocket_server.connect(NEWS).close()
        websocket_server.end_sockets()
        return len(os.listdir("/proc/self/fd"))

    wait_until(lambda: descriptors() == descriptors(), what="an end of what begins")
    before = descriptors()
    for _ in range(10):
        descriptors()
    wait_until(lambda: descriptors() <= before, what="an end of the loops' descriptors")


def test_the_fixture_s_broker_needs_no_server(wsredis_broker: str) -> None:
    publish("kept", facility="news", broadcast=True, expire=60)
    assert fetch_message(None, "news", "broadcast") == "kept"
