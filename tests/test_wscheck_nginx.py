"""wscheck's area `nginx`: what it says of a file, and that a real NGiNX with that file fails in that way."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from websockets.frames import Opcode

from django_wsredis.checks import nginx
from django_wsredis.checks.findings import Problem, Row
from django_wsredis.checks.nginx import program
from django_wsredis.checks.situation import Situation

from . import layouts
from .layouts import Layout, certificate, find_program, find_uwsgi, run_runwsserver, run_uwsgi
from .nginx_cases import CASES, HOST, TIMEOUT, UPGRADE, VERSION, Case
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
        return text.replace("PORT", str(self.port)).replace("SITE", str(self.http))


def for_nobody(folder: Path) -> None:
    folder.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")


@pytest.fixture(scope="module")
def site(shared_redis: RedisServer) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="wsr-") as path:
        folder = Path(path)
        for_nobody(folder)
        site = Site(folder, shared_redis)
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


def browser_headers(site: Site, host: str = "") -> dict[str, str]:
    host = f"{host or '127.0.0.1'}:{site.port}"
    return {"Host": host, "Origin": f"http://{host}"}


# What is right has no problem


@pytest.mark.parametrize("base", ["uwsgi", "proxy", "split"])
def test_what_is_printed_has_no_problem_and_works(base: str, site: Site) -> None:
    main = site.files(base)
    with running(main, site.port):
        rows = look(main, site)
        assert problems(rows) == []
        assert [row for row in rows if row.is_skipped] == []
        assert outcome(site.port, "layout?subscribe-broadcast", browser_headers(site)) == "101"
        assert crowded(site.port, "layout?subscribe-broadcast", browser_headers(site)) == "40 are well"
    if base == "uwsgi":
        assert row(rows, f"may open {site.socket}").found.endswith(" may")


def test_the_printed_file_alone_can_be_looked_at_as_well(site: Site) -> None:
    rows = look(printed(site.files("split")), site)
    assert problems(rows) == []
    assert row(rows, "worker_connections").is_skipped
    assert "a site's file" in row(rows, "configuration").found


def test_tls_with_the_scheme_passed_on_has_no_problem(site: Site) -> None:
    cert, key = certificate(site.folder)
    main = site.files("split", "--certfile", str(cert), "--keyfile", str(key))
    rows = look(main, site, SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"))
    assert problems(rows) == []
    assert row(rows, "scheme").found == "X-Forwarded-Proto: https"
    with running(main, site.port):
        context = ssl.create_default_context(cafile=cert)
        headers = {"Origin": f"https://127.0.0.1:{site.port}"}
        with RawSocket(site.port, "layout?subscribe-broadcast", headers, tls=context) as browser:
            assert browser.answer.status == 101


# What is wrong is found, and a real NGiNX fails in that way


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.id} {case.name}")
def test_a_mistake_is_found_and_is_one(case: Case, site: Site) -> None:
    if case.id in ("E202", "E217") and program.find().version >= (1, 25, 1):
        pytest.skip("this NGiNX is too new to fail so")
    main = site.files(case.base)
    change(printed(main), [(site.filled(old), site.filled(new)) for old, new in case.changes])
    change(main, case.main)
    found = problems(look(main, site, WSREDIS=case.settings))
    assert {problem.id for problem in found} == {f"wsredis.{case.id}"}
    first = found[0]
    assert site.filled(case.text) in first.text
    assert first.hint
    path, _, line = first.place.rpartition(":")
    assert 0 < int(line) <= len(Path(path).read_text().splitlines())
    with running(main, site.port) as process:
        headers = browser_headers(site, case.host)
        if case.fails == "no start":
            assert process.popen.poll() not in (None, 0)
        elif " after " in case.fails:
            seen = crowded(site.port, case.path, headers)
            assert re.fullmatch(case.fails, seen), seen
        else:
            assert outcome(site.port, case.path, headers, is_watched=case.fails == "cut") == case.fails


# Mistakes that need more than a file


class Ear:
    """A site that remembers the head of the last request, and answers 426."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def hear(self) -> str:
        self.listener.settimeout(5)
        sock, _ = self.listener.accept()
        with sock:
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(4096)
            sock.sendall(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")
        return head.decode()

    def __enter__(self) -> Ear:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()


FORWARDED = "        proxy_set_header X-Forwarded-Proto $scheme;\n"
BELIEVED = {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")}


@pytest.mark.parametrize("is_broken", [False, True])
def test_w214_a_browser_may_say_that_it_uses_https(is_broken: bool, site: Site) -> None:
    main = site.files("split")
    with Ear() as ear:
        changes = [(f"127.0.0.1:{site.http};", f"127.0.0.1:{ear.port};"), *([(FORWARDED, "")] if is_broken else [])]
        change(printed(main), changes)
        found = problems(look(main, site, **BELIEVED))
        assert [problem.id for problem in found] == ["wsredis.W214"] * is_broken
        ear.listener.accept()[0].close()  # that was wscheck
        with running(main, site.port):
            request = f"GET /ws/layout HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nX-Forwarded-Proto: https\r\n\r\n"
            with socket.create_connection(("127.0.0.1", site.port), 5) as browser:
                browser.sendall(request.encode())
                assert ("X-Forwarded-Proto: https" in ear.hear()) is is_broken
                browser.recv(1000)


def test_w214_the_scheme_is_said_wrong(site: Site) -> None:
    main = site.files("split")
    change(printed(main), [(FORWARDED, "        proxy_set_header X-Forwarded-Proto https;\n")])
    (problem,) = problems(look(main, site, **BELIEVED))
    assert (problem.id, problem.place) == ("wsredis.W214", f"{printed(main)}:{line_of(main, 'Proto https')}")
    assert problems(look(main, site)) == []


def line_of(main: Path, text: str) -> int:
    lines = printed(main).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


@pytest.mark.parametrize("is_broken", [False, True])
def test_w211_every_page_may_connect_if_the_origin_is_withheld(is_broken: bool, site: Site) -> None:
    main = site.files("split")
    change(printed(main), [(FORWARDED, FORWARDED + '        proxy_set_header Origin "";\n')] if is_broken else [])
    found = problems(look(main, site))
    assert [problem.id for problem in found] == ["wsredis.W211"] * is_broken
    with running(main, site.port):
        foreign = {"Host": f"127.0.0.1:{site.port}", "Origin": "https://evil.example"}
        assert outcome(site.port, "layout?subscribe-broadcast", foreign) == ("101" if is_broken else "403")


def test_w216_hardly_longer_than_from_ping_to_ping_cuts_when_a_worker_is_late(site: Site) -> None:
    main = site.files("split")
    change(printed(main), [(TIMEOUT, "        proxy_read_timeout 1100ms;")])
    (problem,) = problems(look(main, site))
    assert problem.id == "wsredis.W216"
    with running(main, site.port), RawSocket(site.port, "layout?subscribe-broadcast") as browser:
        with site.frozen():
            assert ends(browser)
        well = browser_headers(site)
        wait_until(lambda: outcome(site.port, "layout?subscribe-broadcast", well) == "101", 20, "its waking up")


def test_w222_one_of_two_servers_is_not_there(site: Site) -> None:
    main = site.files("split")
    here = f"    server 127.0.0.1:{site.http};"
    change(printed(main), [(here, f"{here}\n    server 127.0.0.1:1;")])
    (problem,) = problems(look(main, site))
    assert problem.id == "wsredis.W222"
    assert "127.0.0.1:1: nobody listens" in problem.text
    with running(main, site.port) as process:
        seen = [outcome(site.port, "layout?subscribe-broadcast", browser_headers(site)) for _ in range(4)]
        assert seen == ["101"] * 4
        process.wait_for(r"connect\(\) failed .*127\.0\.0\.1:1", 5)
    change(printed(main), [("server 127.0.0.1:1;", "server 127.0.0.1:1 down;")])
    assert problems(look(main, site)) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a socket to somebody else")
@pytest.mark.parametrize("what", ["the socket", "a folder above"])
def test_e223_nginx_may_not_open_the_socket(what: str, site: Site) -> None:
    main = site.files("uwsgi")
    folder = site.folder / f"closed{site.count}"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        path = folder / "site.sock"
        listener.bind(str(path))
        listener.listen()
        folder.chmod(0o755)
        path.chmod(0o777)
        change(printed(main), [(f"unix:{site.socket}", f"unix:{path}")])
        with running(main, site.port):
            assert problems(look(main, site)) == []
            closed = path if what == "the socket" else folder
            closed.chmod(0o700)
            (problem,) = problems(look(main, site))
            assert problem.id == "wsredis.E223"
            assert f"NGiNX runs as nobody, and may not open {path}: " in problem.text
            assert "rwx------ of root:root" in problem.text
            assert problem.place == f"{printed(main)}:{line_of(main, str(path))}"
            assert outcome(site.port, "layout?subscribe-broadcast", browser_headers(site)) == "502"
    change(main, [("daemon off;", "daemon off;\nuser root;")])  # it does not run now: its file says who it will be
    assert [problem.id for problem in problems(look(main, site))] == ["wsredis.E221"]
    change(main, [("user root;", "user www-data;")])
    assert {problem.id for problem in problems(look(main, site))} == {"wsredis.E221", "wsredis.E223"}


# The program, and where its configuration comes from


@pytest.fixture
def as_nginx(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a script in NGiNX's place."""

    def install(script: str) -> None:
        path = folder / "nginx"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    return install


def real(main: Path) -> str:
    return f'exec {find_program("nginx")} -p {main.parent} -e stderr -c {main} "$@"'


def test_e201_an_old_one(as_nginx: Callable[[str], None], site: Site) -> None:
    as_nginx("echo nginx version: nginx/1.3.12 >&2")
    (problem,) = problems(look(site.files("split"), site))
    assert problem.id == "wsredis.E201"
    assert "NGiNX is 1.3.12" in problem.text
    as_nginx("echo nginx version: nginx/1.3.13 >&2")
    assert problems(look(site.files("split"), site)) == []


def test_http_1_1_is_the_usual_one_since_1_29_7(as_nginx: Callable[[str], None], site: Site) -> None:
    main = site.files("split")
    change(printed(main), [(VERSION + UPGRADE, UPGRADE)])
    as_nginx("echo nginx version: nginx/1.29.7 >&2")
    assert problems(look(main, site)) == []
    as_nginx("echo nginx version: nginx/1.29.6 >&2")
    assert [problem.id for problem in problems(look(main, site))] == ["wsredis.E207"]


def test_what_nginx_prints_is_looked_at_where_no_file_is_given(as_nginx: Callable[[str], None], site: Site) -> None:
    main = site.files("split")
    as_nginx(real(main))
    rows = look(None, site)
    assert problems(rows) == []
    assert row(rows, "configuration").found == f"{main}, 4 files"
    change(printed(main), [(HOST, "")])
    (problem,) = problems(look(None, site))
    assert (problem.id, problem.place) == ("wsredis.E212", f"{printed(main)}:{line_of(main, 'proxy_pass')}")


def test_what_nginx_printed_elsewhere_can_be_given_as_a_file(
    as_nginx: Callable[[str], None], site: Site, folder: Path
) -> None:
    main = site.files("uwsgi")
    as_nginx(real(main))
    dump = program.ask(program.find()).dump
    shutil.rmtree(main.parent)  # it is another machine's
    (folder / "dump").write_text(f"nginx: configuration file {main} test is successful\n{dump}")
    rows = look(folder / "dump", site)
    assert problems(rows) == []
    assert row(rows, "configuration").found == f"{main}, 4 files"


def test_what_nginx_says_of_a_mistake_is_told(as_nginx: Callable[[str], None], site: Site) -> None:
    main = site.files("split")
    change(printed(main), [(TIMEOUT, "        proxy_reed_timeout 60s;")])
    as_nginx(f'[ "$1" = -V ] && echo "configure arguments: --conf-path={main}" && exit; {real(main)}')
    (problem,) = problems(look(None, site))
    assert problem.id == "wsredis.E203"
    assert problem.text == 'NGiNX refuses it: unknown directive "proxy_reed_timeout".'
    assert problem.place == f"{printed(main)}:{line_of(main, 'proxy_reed')}"


def test_one_that_may_not_read_everything_is_no_problem(as_nginx: Callable[[str], None], site: Site) -> None:
    main = site.files("split")
    emergency = 'nginx: [emerg] open() \\"/var/log/nginx/error.log\\" failed (13: Permission denied)'
    as_nginx(f'[ "$1" = -V ] && echo "configure arguments: --conf-path={main}" && exit; echo "{emergency}" >&2; exit 1')
    rows = look(None, site)
    assert problems(rows) == []
    assert row(rows, "nginx -T").is_skipped
    assert "Permission denied" in row(rows, "nginx -T").found
    assert row(rows, "proxy_http_version").found == "HTTP/1.1"


def test_one_that_hangs_is_waited_for_2_seconds_at_most(as_nginx: Callable[[str], None], site: Site) -> None:
    as_nginx("exec sleep 60")
    start = time.monotonic()
    rows = look(site.files("split"), site)
    assert time.monotonic() - start < 3
    assert row(rows, "nginx").is_skipped
    assert row(rows, "Host").verdict == "ok"


def test_without_nginx_a_given_file_is_looked_at_all_the_same(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    main = site.files("split")
    monkeypatch.setattr(program, "FOLDERS", ())
    monkeypatch.setenv("PATH", "/nonexistent")
    rows = look(main, site)
    assert row(rows, "nginx").is_skipped
    assert row(rows, "Host").verdict == "ok"
    monkeypatch.setattr(program, "USUAL_PATH", "/nonexistent/nginx.conf")
    rows = look(None, site)
    assert [row.verdict for row in rows] == ["not checked", "not checked"]


def test_a_configuration_that_is_for_other_sites_is_none_of_ours(as_nginx: Callable[[str], None], site: Site) -> None:
    main = site.files("split")
    printed(main).write_text("server { listen 127.0.0.1:1; server_name other.example; root /srv; }")
    as_nginx(real(main))
    rows = look(None, site)
    assert problems(rows) == []
    assert row(rows, "WEBSOCKET_URL").is_skipped
    (problem,) = problems(look(main, site))  # but this file is said to be
    assert problem.id == "wsredis.E204"


def test_wrong_settings_and_unreadable_files_are_rows(site: Site, folder: Path) -> None:
    main = site.files("split")
    with override_settings(WSREDIS={"NOPE": 1}):
        rows = list(nginx.look(Situation(nginx_conf=main)))
    assert row(rows, "WEBSOCKET_URL").is_skipped
    (folder / "empty").write_text("")
    assert [problem.id for problem in problems(look(folder / "empty", site))] == ["wsredis.E204"]
    (folder / "noise").write_bytes(bytes(range(256)) * 3)
    assert {problem.id for problem in problems(look(folder / "noise", site))} <= {"wsredis.E203", "wsredis.E204"}
    (folder / "itself").write_text(f"include {folder}/itself;\n")
    (problem,) = problems(look(folder / "itself", site))
    assert problem.text == f"{folder}/itself is included by itself."
