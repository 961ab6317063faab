"""What is told of a Redis that is not as WSREDIS['URL'] says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from django.test import override_settings
from websockets.exceptions import InvalidHandshake

from django_wsredis import publish, redis
from django_wsredis.exceptions import BrokerUnavailable

from .servers import Site, find_redis
from .topologies import PASSWORD, Cluster, Server

OF_CLUSTER = "It is a node of a cluster: let WSREDIS['URL'] begin with redis+cluster://."


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers that end with the test."""
    servers: list[Server] = []

    def start(*arguments: str, password: str = "") -> Server:
        servers.append(Server(tmp_path, find_redis(), *arguments, password=password))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@contextmanager
def web_server() -> Iterator[str]:
    """Return the address of what answers each connection as a web server does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    sock.recv(65536)
                    sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def told(url: str) -> str:
    """Return what both a publisher and a worker are told; the message would be kept."""
    with override_settings(WSREDIS={"URL": url}):
        with pytest.raises(BrokerUnavailable) as raised:
            publish("x", facility="news", broadcast=True, expire=60)
    text = str(raised.value)
    assert "\n" not in text
    return text


def told_worker(url: str) -> str:
    with pytest.raises(BrokerUnavailable) as raised:
        redis.connect_link(url, "test")
    return str(raised.value)


def test_what_is_no_redis() -> None:
    with web_server() as address:
        said = f"What listens at redis://{address}/0 is no Redis. Is WSREDIS['URL'] right?"
        assert told(f"redis://me:secret@{address}/0") == told_worker(f"redis://me:secret@{address}/0") == said


@pytest.mark.parametrize("login", ["", ":wrong@", "nobody:wrong@"])
def test_a_login_that_is_refused(run: Callable[..., Server], login: str) -> None:
    server = run(password="right")
    url = f"redis://{login}{server.address}/0"
    for said in (told(url), told_worker(url)):
        refused = "refuses the login of WSREDIS['URL']: " if login else "wants a login, and WSREDIS['URL'] has none: "
        assert said.startswith(f"Redis (redis://{server.address}/0) {refused}")
        assert "wrong" not in said
        assert "running" not in said


def test_a_database_that_is_not_there(run: Callable[..., Server]) -> None:
    url = f"redis://{run().address}/99"
    assert told(url).endswith("WSREDIS['URL'] names a database that it does not have.")
    assert told(url) == told_worker(url)


def test_a_single_server_that_is_taken_for_a_cluster(run: Callable[..., Server]) -> None:
    said = told(f"redis+cluster://{run().address}")
    assert said.endswith("It is no cluster: let WSREDIS['URL'] begin with redis://.")


def test_a_node_of_a_cluster_that_is_taken_for_a_single_server(run: Callable[..., Server]) -> None:
    node = run("--cluster-enabled", "yes")
    assert told(f"redis://{node.address}/0").endswith(OF_CLUSTER)  # it serves no slots
    assert told(f"redis://{node.address}/1").endswith(OF_CLUSTER)  # Redis has one database in a cluster


def test_a_node_that_names_another_one(folder: Path, start_site: Callable[..., Site]) -> None:
    cluster = Cluster(folder, replicas=0)
    try:
        master = cluster.master_of("wsredis:broadcast:news")
        other = next(node for node in cluster.nodes if node is not master)
        url = f"redis://:{quote(PASSWORD, safe='')}@{other.address}/0"
        assert told(url).endswith(OF_CLUSTER)
        site = start_site("runwsserver", "--noreload", redis_url=url)
        with suppress(InvalidHandshake):
            site.connect("news?subscribe-broadcast").close()
        site.wait_for(r"one of a cluster: then WSREDIS\['URL'\] begins with redis\+cluster://\.")
    finally:
        cluster.stop()


def test_tls_with_a_server_that_does_not_speak_it(run: Callable[..., Server]) -> None:
    said = told(f"rediss://{run().address}/0")
    assert said.endswith(
        "did not answer within 2 s. Does it speak TLS there? If not, WSREDIS['URL'] begins with redis."
    )
