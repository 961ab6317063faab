"""How the hosts that are not ours give up a socket: what no real server can show, since it is well when it runs."""

from __future__ import annotations

import os
import re
import socket
import sys
import types
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import gevent
import pytest

from django_wsredis.exceptions import CannotDetach
from django_wsredis.hosts import detach, uwsgi


class Api:
    """uWSGI's module, as far as a request needs it."""

    def __init__(self, fileno: int, *options: str) -> None:
        self.opt = {option.encode(): b"1" for option in options}
        self.connection_fd = lambda: fileno


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["threads", "https-socket"], "--https-socket"),
        (["gevent", "suwsgi-socket"], "--suwsgi-socket"),
        (["threads", "fastcgi-socket"], "--fastcgi-socket"),
        ([], "--enable-threads"),
        (["processes"], "--enable-threads"),
    ],
)
def test_a_uwsgi_that_cannot_says_what_to_change(options: list[str], said: str) -> None:
    offer = uwsgi.UWSGI(Api(-1, *options)).offer({})
    assert isinstance(offer, str)
    assert said in offer
    with pytest.raises(CannotDetach, match=said):
        detach.find({detach.ENVIRON_KEY: offer})


@pytest.mark.parametrize("options", [["threads"], ["enable-threads"], ["gevent"]])
def test_what_uwsgi_still_writes_goes_nowhere(pair: tuple[socket.socket, socket.socket], options: list[str]) -> None:
    ours, theirs = pair
    offer = uwsgi.UWSGI(Api(ours.fileno(), *options)).offer({})
    with closing(detach.find({detach.ENVIRON_KEY: offer})()) as taken:
        os.write(ours.fileno(), b"HTTP/1.1 101 of uWSGI's own")
        assert os.read(ours.fileno(), 10) == b""
        taken.send(b"ours")
        assert theirs.recv(100) == b"ours"
        theirs.send(b"theirs")
        assert taken.recv(100) == b"theirs"


def test_a_folder_that_is_called_uwsgi_is_no_uwsgi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", types.ModuleType("uwsgi"))
    assert uwsgi.find() is None


def test_a_detached_descriptor_is_off_the_kernels_list_of_the_hosts_loop(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Else libev makes its whole list anew at the first data: with thousands of sockets that takes its time."""
    ours, theirs = pair
    loop = gevent.get_hub().loop
    if loop.backend != "epoll":
        pytest.skip(f"gevent uses {loop.backend} here")
    watcher = loop.io(ours.fileno(), 1)

    def on_request() -> None:
        ours.recv(100)
        watcher.stop()

    watcher.start(on_request)
    theirs.send(b"GET / HTTP/1.1\r\n")
    gevent.sleep(0.01)
    assert not watcher.active
    watcher.close()
    assert ours.fileno() in watched(loop.fileno())
    with closing(detach.duplicate(ours.fileno(), loop)):
        assert ours.fileno() not in watched(loop.fileno())
        with closing(detach.duplicate(ours.fileno(), loop)):  # once more does no harm
            pass


def watched(epoll_fileno: int) -> list[int]:
    info = Path(f"/proc/self/fdinfo/{epoll_fileno}").read_text()
    return [int(number) for number in re.findall(r"^tfd:\s+(\d+)", info, re.M)]
