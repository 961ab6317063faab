"""Whether somebody listens at an address, and what it speaks. All are asked at once, for little more than a second."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import struct
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 0.4
TOTAL_SECONDS = 1.5
ENOUGH_BYTES = 1024  # of an answer
PROTOCOLS = ("http", "uwsgi")
NO_HOST = "there is no such host"
HEALTHS = (b"ok\n", b"not ok\n")  # what `-/healthz` of a site of ours answers, see operators.py
HOST_AND_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^:]+):(?P<port>\d+)")


class Probed(NamedTuple):
    """What was found at an address.

    wrong: what is wrong, "" if somebody listens; in parentheses why that is not known. speaks: one of PROTOCOLS, "" if
    that is not known: a busy site does not answer at once. is_site: whether a site of ours answered.
    """

    wrong: str = ""
    speaks: str = ""
    is_site: bool = False


def probe(addresses: Mapping[str, str], path: str) -> dict[str, Probed]:
    """Ask for a path at each address, `unix:/path` or `host:port`, in its protocol; else in the other one.

    addresses: with the protocol of each, one of PROTOCOLS; "" to connect only.
    """
    unknown = Probed(f"(not known: no answer within {TOTAL_SECONDS:g} s)")
    found = dict.fromkeys(addresses, unknown)

    def look(address: str, protocol: str) -> None:
        found[address] = _look(address, protocol, path)

    # a thread for each, since the system's search for a name has no timeout; it may outlive us
    threads = [threading.Thread(target=look, args=pair, daemon=True) for pair in addresses.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + TOTAL_SECONDS
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    return dict(found)


def _look(address: str, protocol: str, path: str) -> Probed:
    try:
        _connect(address).close()
    except TimeoutError:
        return Probed(f"no answer within {CONNECT_SECONDS:g} s")
    except ValueError:
        return Probed("it is no address")
    except socket.gaierror:
        return Probed(NO_HOST)
    except BlockingIOError:  # its queue is full: somebody listens, and is busy
        return Probed()
    except OSError as error:
        return Probed(_reason(error, address))
    for one in sorted(PROTOCOLS, key=lambda one: one != protocol) if protocol else ():
        if answer := _answer(address, one, path):
            head, _, body = answer.partition(b"\r\n\r\n")
            return Probed(speaks=one, is_site=body in HEALTHS and b"no-store" in head)
    return Probed()


def _connect(address: str) -> socket.socket:
    """Return a connection. Raises OSError; ValueError for what is no address."""
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(CONNECT_SECONDS)
        try:
            sock.connect(address.removeprefix("unix:"))
        except OSError:
            sock.close()
            raise
        return sock
    match = HOST_AND_PORT.fullmatch(address)
    if match is None:
        raise ValueError(address)
    return socket.create_connection((match["host"].strip("[]"), int(match["port"])), CONNECT_SECONDS)


def _answer(address: str, protocol: str, path: str) -> bytes:
    """Return what a server answers in a protocol, b"" if it does not speak it.

    HTTP's have 400 for uwsgi's, if anything.
    """
    answer = b""
    deadline = time.monotonic() + ANSWER_SECONDS
    try:
        with _connect(address) as sock:
            sock.settimeout(ANSWER_SECONDS)
            sock.sendall(_http(path) if protocol == "http" else _uwsgi(path))
            while len(answer) < ENOUGH_BYTES and (part := sock.recv(ENOUGH_BYTES)):
                answer += part
                sock.settimeout(max(0.001, deadline - time.monotonic()))
    except OSError:
        pass  # what has come counts
    return answer if answer.startswith(b"HTTP/") and (protocol == "http" or answer[9:12] != b"400") else b""


def _http(path: str) -> bytes:
    return f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode()


def _uwsgi(path: str) -> bytes:
    """Return a request in uwsgi's protocol: a head of 4 bytes, then names and values, each after its length."""
    given = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "REQUEST_URI": path, "QUERY_STRING": ""}
    given |= {"SERVER_PROTOCOL": "HTTP/1.0", "SERVER_NAME": "localhost", "SERVER_PORT": "80", "HTTP_HOST": "localhost"}
    body = b"".join(struct.pack("<H", len(text)) + text.encode() for pair in given.items() for text in pair)
    return struct.pack("<BHB", 0, len(body), 0) + body


def _reason(error: OSError, address: str) -> str:
    path = address.removeprefix("unix:")
    if path != address and os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
        return "it is no socket"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"(not known: you may not open it yourself: {error.strerror})"
    return {
        errno.ENOENT: "there is no such socket",
        errno.ECONNREFUSED: "nobody listens",
    }.get(error.errno or 0, error.strerror or str(error))
