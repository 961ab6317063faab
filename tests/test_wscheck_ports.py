"""A real NGiNX that has no ports left, in a network of its own: wscheck tells it before, and only of TCP."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .layouts import (
    Layout,
    running,
    runwsserver_behind_nginx_on_a_unix_socket,
    runwsserver_behind_nginx_on_tcp,
)
from .servers import ROOT, Process, RedisServer, wait_until

PORTS = 10
SOCKETS = 20

# Opens websockets, from ports that are not of that range, and says how each is answered.
BROWSERS = """
import socket, sys
sockets = []
for number in range(int(sys.argv[2])):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.settimeout(10)
    sock.bind(("127.0.0.1", 20_000 + number))
    sock.connect(("127.0.0.1", int(sys.argv[1])))
    sock.sendall(
        b"GET /ws/layout?subscribe-broadcast HTTP/1.1\\r\\nHost: 127.0.0.1:" + sys.argv[1].encode() + b"\\r\\n"
        b"Upgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n"
        b"Sec-WebSocket-Version: 13\\r\\n\\r\\n"
    )
    print(sock.recv(4096).split()[1].decode())
    sockets.append(sock)
"""


class Network(Layout):
    """A layout in a network of its own, whose kernel has few ports for those who connect."""

    inside: tuple[str, ...] = ()

    def __init__(self, folder: Path, redis_server: RedisServer) -> None:
        super().__init__(folder, redis_server)
        self.settings["WSREDIS"]["MAX_SOCKETS"] = SOCKETS

    def run_site(self, *command: str | Path) -> Process:
        return super().run_site(*self.inside, *command)

    def run_proxy(self, *command: str) -> Process:
        process = Process([*self.inside, *command], cwd=self.folder)
        self.proxies.append(process)
        return process

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.answers(1) == ["101"], 30, f"an answer; so far:\n{self.output}\n")

    def run(self, *command: str | Path) -> str:
        done = subprocess.run(
            [*self.inside, *command], capture_output=True, text=True, timeout=60, env=self.environment, cwd=ROOT
        )
        return done.stdout

    def answers(self, count: int) -> list[str]:
        """Return the status with which each of some browsers is answered, all of which stay until the last one is."""
        return self.run(sys.executable, "-c", BROWSERS, str(self.port), str(count)).split()

    def wscheck(self) -> dict[str, Any]:
        told = self.run(
            sys.executable, ROOT / "tests/project/manage.py", "wscheck", "--json", "--only", "nginx",
            f"--nginx-conf={self.folder / 'nginx.conf'}",
        )  # fmt: skip
        area: dict[str, Any] = json.loads(told)["areas"][0]
        return area


@pytest.fixture
def network() -> Iterator[type[Network]]:
    """Make a network, with a loopback device and few ports."""
    lines = f"ip link set lo up && echo 50000 {50_000 + PORTS - 1} > /proc/sys/net/ipv4/ip_local_port_range"
    try:
        holder = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", f"{lines} && echo ready && read line"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    except OSError:
        pytest.skip("no unshare here")
    try:
        if holder.stdout.readline() != "ready\n":
            pytest.skip("only root may make a network")
        yield type("Inside", (Network,), {"inside": ("nsenter", "-t", str(holder.pid), "-n")})
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.parametrize(
    ("start", "answers", "ids"),
    [
        (runwsserver_behind_nginx_on_tcp, {"101": PORTS, "502": SOCKETS - PORTS}, {"wsredis.W555"}),
        (runwsserver_behind_nginx_on_a_unix_socket, {"101": SOCKETS}, set()),
    ],
)
def test_w555_a_proxy_without_ports(
    folder: Path,
    redis_server: RedisServer,
    network: type[Network],
    start: Callable[[Layout], None],
    answers: dict[str, int],
    ids: set[str],
) -> None:
    with running(start, folder, redis_server, network) as layout:
        assert isinstance(layout, Network)
        problems = [problem for row in layout.wscheck()["rows"] for problem in row["problems"]]
        found = layout.answers(SOCKETS)
    assert {problem["id"] for problem in problems if problem["level"] != "info"} == ids
    if not ids:
        assert found == ["101"] * SOCKETS
        return
    # one or two ports may wait for the end of connections before
    assert set(found) == set(answers), found
    assert answers["101"] - 2 <= found.count("101") <= answers["101"]
