"""A site, and an NGiNX in front of it for each test: with what `wscheck --emit nginx` prints, or a change of that."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from websockets.frames import Opcode

from django_wsredis.checks import nginx
from django_wsredis.checks.findings import Problem, Row
from django_wsredis.checks.situation import Situation

from . import layouts
from .layouts import Layout, find_program, find_uwsgi, run_runwsserver, run_uwsgi
from .rawsocket import ACCEPT, RawSocket
from .servers import Process, RedisServer, free_port, wait_until


class Site(Layout):
    """One site, by uwsgi's protocol on a unix socket and by HTTP on a port; each case has an NGiNX of its own."""

    def __init__(self, folder: Path, redis_server: RedisServer) -> None:
        super().__init__(folder, redis_server)
        self.http = free_port()
        self.socket = folder / "uwsgi.sock"
        self.count = 0

    def start(self) -> None:
        run_uwsgi(self, find_uwsgi(), "--listen", f"uwsgi://{self.socket}", "--workers", "1")
        run_runwsserver(self, f"127.0.0.1:{self.http}")
        wait_until(self.socket.exists, 30, "uWSGI's socket")

    def upstreams(self, base: str) -> list[str]:
        return {
            "uwsgi": ["--upstream", f"uwsgi://{self.socket}"],
            "proxy": ["--upstream", f"127.0.0.1:{self.http}"],
            "split": ["--upstream", f"uwsgi://{self.socket}", "--ws-upstream", f"127.0.0.1:{self.http}"],
        }[base]

    def files(self, base: str, *options: str) -> Path:
        """Return NGiNX's main file in a new folder; what is printed for it is beside it."""
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir()
        for_nobody(folder)
        whole, self.folder = self.folder, folder
        try:
            self.port = free_port()
            (site,) = self.emit("nginx", "--listen", f"127.0.0.1:{self.port}", *self.upstreams(base), *options)
            layouts.nginx(folder, site)
        finally:
            self.folder = whole
        return folder / "nginx.conf"

    def filled(self, text: str) -> str:
        return text.replace("PORT", str(self.port)).replace("SITE", str(self.http)).replace("UWSGI", str(self.socket))


def for_nobody(folder: Path) -> None:
    folder.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")


@contextmanager
def running_site(redis_server: RedisServer) -> Iterator[Site]:
    """Run the site in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="wsr-") as path:
        folder = Path(path)
        for_nobody(folder)
        site = Site(folder, redis_server)
        try:
            site.start()
            yield site
        finally:
            site.stop()


def change(path: Path, changes: list[tuple[str, str]]) -> None:
    text = path.read_text()
    for old, new in changes:
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    path.write_text(text)


def printed(main: Path) -> Path:
    return main.parent / "tests.nginx.conf"


def look(main: Path | None, site: Site, **settings: Any) -> list[Row]:
    """Return what wscheck finds, with the settings of the site."""
    given = {**site.settings, "WSREDIS": {**site.settings["WSREDIS"], **settings.pop("WSREDIS", {})}}
    with override_settings(**{**given, **settings}):
        return list(nginx.look(Situation(nginx_conf=main)))


def problems(rows: list[Row]) -> list[Problem]:
    return [problem for row in rows for problem in row.problems]


def row(rows: list[Row], checked: str) -> Row:
    return next(row for row in rows if row.checked == checked)


@contextmanager
def running(main: Path, port: int) -> Iterator[Process]:
    """Run NGiNX with a main file, as an ordinary user, until it listens or has given up."""
    command = [find_program("nginx"), "-p", str(main.parent), "-e", "stderr", "-c", str(main)]
    process = Process(command, cwd=main.parent, **layouts.as_nobody())

    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            return process.popen.poll() is not None
        return True

    try:
        wait_until(listens, 10, "NGiNX")
        yield process
    finally:
        process.stop()


def ends(browser: RawSocket, seconds: float = 3.0) -> bool:
    """Tell whether a websocket ends soon, without a close frame."""
    deadline = time.monotonic() + seconds
    while (frame := browser.frame(max(0.01, deadline - time.monotonic()))) is not None:
        assert frame.opcode is Opcode.PING
    return True


def outcome(port: int, path: str, headers: dict[str, str], *, is_watched: bool = False) -> str:
    """Return what a browser sees of a handshake: the status, `cut` if it ends soon, or `no answer`."""
    try:
        with RawSocket(port, path, headers) as browser:
            status = str(browser.answer.status)
            if status == "101" and browser.answer.headers.get("sec-websocket-accept") != ACCEPT:
                return "101 without Sec-WebSocket-Accept"
            return "cut" if is_watched and ends(browser) else status
    except (AssertionError, OSError, ValueError):
        return "no answer"


def crowded(port: int, path: str, headers: dict[str, str], count: int = 40) -> str:
    """Return what the first browser sees that gets no websocket while those before have theirs."""
    request = f"GET /ws/{path} HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    request += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    request += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    browsers: list[socket.socket] = []
    try:
        while len(browsers) < count:
            browsers.append(socket.create_connection(("127.0.0.1", port), 5))
            browsers[-1].settimeout(1.5)
            try:
                browsers[-1].sendall(request.encode())
                answer = browsers[-1].recv(1000)
            except OSError:
                answer = b""
            if not answer.startswith(b"HTTP/1.1 101"):
                return f"{answer[9:12].decode() or 'no answer'} after {len(browsers) - 1}"
        return f"{count} are well"
    finally:
        for browser in browsers:
            browser.close()


def in_nginx_place(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a script in NGiNX's place."""
    folder.chmod(0o755)  # for an ordinary user, as whom root runs it
    path = folder / "nginx"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def real(main: Path) -> str:
    """Return the script that runs NGiNX with a main file."""
    return f'exec {find_program("nginx")} -p {main.parent} -e stderr -c {main} "$@"'


def browser_headers(site: Site, host: str = "") -> dict[str, str]:
    host = f"{host or '127.0.0.1'}:{site.port}"
    return {"Host": host, "Origin": f"http://{host}"}


def line_of(main: Path, text: str) -> int:
    lines = printed(main).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)
