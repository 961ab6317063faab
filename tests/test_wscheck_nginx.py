"""wscheck's area `nginx`: what it says of a file, and that a real NGiNX with that file fails in that way."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import resource
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from django_wsredis.checks import kernel
from django_wsredis.checks.nginx import program

from .layouts import certificate, run_runwsserver
from .nginx_site import (
    Site,
    browser_headers,
    change,
    crowded,
    ends,
    line_of,
    look,
    outcome,
    printed,
    problems,
    row,
    running,
    running_site,
)
from .rawsocket import RawSocket
from .servers import RedisServer, free_port, wait_until
from .tls import trust

VERSION = "        proxy_http_version 1.1;  # 1.0 has no upgrade\n"
UPGRADE = "        proxy_set_header Upgrade $http_upgrade;\n"
CONNECTION = "        proxy_set_header Connection $connection_upgrade;\n"
HOST = "        proxy_set_header Host $http_host;  # with its port: the browser's Origin is compared with it\n"
UWSGI_HOST = "        uwsgi_param HTTP_HOST $http_host if_not_empty;"
WEBSOCKETS = "    location /ws/ {  # WEBSOCKET_URL\n"
LISTEN = "    listen 127.0.0.1:PORT;\n"
SERVER = "server {\n    listen"
TIMEOUT = "        proxy_read_timeout 60s;"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One mistake: `old` becomes `new` in the printed file, or in NGiNX's main one.

    base: uwsgi, proxy, or split, which has a location for websockets alone. id: what wscheck finds. fails: what a
    browser sees, as `outcome()` has it, or an expression for `crowded()`. text: what the problem says.
    """

    name: str
    id: str
    fails: str
    base: str = "split"
    changes: list[tuple[str, str]] = field(default_factory=list)
    main: list[tuple[str, str]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    path: str = "layout?subscribe-broadcast"
    host: str = ""
    text: str = ""


def inside(directives: str) -> list[tuple[str, str]]:
    """Return the change that adds directives to the location for websockets."""
    return [(WEBSOCKETS, f"{WEBSOCKETS}        {directives}\n")]


def beside(block: str) -> list[tuple[str, str]]:
    """Return the change that adds something before the location for websockets."""
    return [(WEBSOCKETS, f"    {block}\n\n{WEBSOCKETS}")]


CASES = [
    Case(
        name="older than every http2",
        id="E202",
        fails="no start",
        changes=[(LISTEN, LISTEN + "    http2 on;\n")],
        text="needs NGiNX 1.25.1",
    ),
    Case(
        name="no semicolon",
        id="E203",
        fails="no start",
        changes=[("proxy_http_version 1.1;", "proxy_http_version 1.1")],
        text="A semicolon is missing at the end of 'proxy_http_version'",
    ),
    Case(
        name="no semicolon at the end of a block",
        id="E203",
        fails="no start",
        changes=[(TIMEOUT, TIMEOUT.replace(";", ""))],
        text="is not terminated by",
    ),
    Case(name="no brace", id="E203", fails="no start", changes=[("\n    }\n", "\n")], text="Unexpected end of file"),
    Case(
        name="an include of nothing",
        id="E203",
        fails="no start",
        changes=inside("include /nonexistent/websockets.conf;"),
        text="/nonexistent/websockets.conf cannot be read: No such file or directory.",
    ),
    Case(
        name="files are tried",
        id="E204",
        fails="404",
        changes=inside("try_files $uri =404;"),
        text="`try_files $uri =404`",
    ),
    Case(
        name="redirected to https",
        id="E204",
        fails="301",
        changes=[(LISTEN, LISTEN + "    return 301 https://$host$request_uri;\n")],
        text="`return 301 https://$host$request_uri`",
    ),
    Case(
        name="refused by an if",
        id="E204",
        fails="403",
        changes=inside('if ($http_upgrade = "websocket") { return 403; }'),
        text="`return 403`",
    ),
    Case(
        name="an expression comes first",
        id="E204",
        fails="404",
        changes=beside("location ~ ^/w { return 404; }"),
        text="`return 404`",
    ),
    Case(
        name="a location inside without proxy_pass",
        id="E204",
        fails="404",
        changes=inside("location ~ . { add_header X-Inside yes; }"),
        text="`location ~ .`",
    ),
    Case(
        name="fastcgi_pass",
        id="E204",
        fails="504",
        changes=[("proxy_pass http://tests_websockets;", "fastcgi_read_timeout 1; fastcgi_pass tests_websockets;")],
        text="`fastcgi_pass tests_websockets`, which has no websockets",
    ),
    Case(
        name="the other host has a server of its own",
        id="E204",
        fails="404",
        changes=[
            (" testserver;", ";"),
            (SERVER, f"server {{\n{LISTEN}    server_name testserver;\n    return 404;\n}}\n\n{SERVER}"),
        ],
        host="testserver",
        text="ws://testserver:PORT/ws/anything",
    ),
    Case(
        name="scripts are files",
        id="W205",
        fails="404",
        changes=beside(r"location ~ \.(?:css|js)$ { expires 1d; }"),
        path="news.js?subscribe-broadcast",
        text="/ws/anything.css",
    ),
    Case(
        name="an exact location",
        id="W205",
        fails="404",
        changes=beside("location = /ws/news { return 404; }"),
        path="news?subscribe-broadcast",
        text="/ws/news does not reach the site",
    ),
    Case(
        name="a longer prefix",
        id="W205",
        fails="404",
        changes=beside("location /ws/archive { expires 1d; }"),
        path="archive?subscribe-broadcast",
        text="/ws/archive",
    ),
    Case(
        name="the prefix is stripped",
        id="E206",
        fails="404",
        changes=[("proxy_pass http://tests_websockets;", "proxy_pass http://tests_websockets/;")],
        text="makes /anything of /ws/anything",
    ),
    Case(
        name="the prefix is rewritten",
        id="E206",
        fails="404",
        changes=inside("rewrite ^/ws/(.*)$ /$1 break;"),
        text="`rewrite ^/ws/(.*)$ /$1 break`",
    ),
    Case(
        name="the prefix is rewritten for uwsgi",
        id="E206",
        fails="404",
        base="uwsgi",
        changes=[(UWSGI_HOST, f"        rewrite ^/ws(/.*) $1 break;\n{UWSGI_HOST}")],
        text="makes /anything of /ws/anything",
    ),
    Case(
        name="HTTP/1.0",
        id="E207",
        fails="400",
        changes=[(VERSION + UPGRADE, UPGRADE)],
        text="HTTP/1.0, by default",
    ),
    Case(
        name="no Upgrade", id="E208", fails="426", changes=[(UPGRADE, "")], text="Upgrade: (none), Connection: upgrade"
    ),
    Case(
        name="no Connection",
        id="E208",
        fails="426",
        changes=[(CONNECTION, "")],
        text="Upgrade: websocket, Connection: close",
    ),
    Case(
        name="Connection for keepalive",
        id="E208",
        fails="426",
        changes=[(CONNECTION, '        proxy_set_header Connection "";\n')],
        text="Connection: (none)",
    ),
    Case(
        name="a map that closes",
        id="E208",
        fails="426",
        changes=[("default upgrade;", "default close;")],
        text="Connection: close",
    ),
    Case(
        name="headers that are not inherited",
        id="E208",
        fails="426",
        changes=[(UPGRADE + CONNECTION, ""), (LISTEN, LISTEN + UPGRADE + CONNECTION)],
        text="is not inherited, as `location /ws/` has others",
    ),
    Case(
        name="a map that is not there",
        id="E208",
        fails="no start",
        changes=[("map $http_upgrade $connection_upgrade", "map $http_upgrade $connection_upgraded")],
        text="no `map` makes $connection_upgrade",
    ),
    Case(
        name="no uwsgi_params",
        id="E209",
        fails="502",
        base="uwsgi",
        changes=[("        include /etc/nginx/uwsgi_params;\n", "")],
        text="REQUEST_METHOD",
    ),
    Case(
        name="uwsgi_params that are not inherited",
        id="E209",
        fails="502",
        base="uwsgi",
        changes=[
            ("        include /etc/nginx/uwsgi_params;\n", ""),
            (LISTEN, LISTEN + "    include /etc/nginx/uwsgi_params;\n"),
        ],
        text="REQUEST_METHOD",
    ),
    Case(
        name="no headers of the request",
        id="E210",
        fails="400",
        changes=inside("proxy_pass_request_headers off;"),
        text="neither Sec-WebSocket-Key nor a cookie arrives",
    ),
    Case(
        name="no key",
        id="E210",
        fails="400",
        changes=inside('proxy_set_header Sec-WebSocket-Key "";'),
        text="the site refuses handshakes without it",
    ),
    Case(
        name="no key for uwsgi",
        id="E210",
        fails="400",
        base="uwsgi",
        changes=[(UWSGI_HOST, f'{UWSGI_HOST}\n        uwsgi_param HTTP_SEC_WEBSOCKET_KEY "";')],
        text="the site refuses handshakes without it",
    ),
    Case(
        name="an answer without its proof",
        id="E210",
        fails="101 without Sec-WebSocket-Accept",
        changes=inside("proxy_hide_header Sec-WebSocket-Accept;"),
        text="`proxy_hide_header Sec-WebSocket-Accept`",
    ),
    Case(name="no Host", id="E212", fails="400", changes=[(HOST, "")], text="arrives as tests_websockets"),
    Case(
        name="another Host",
        id="E212",
        fails="400",
        changes=[(HOST, "        proxy_set_header Host backend;\n")],
        text="arrives as backend",
    ),
    Case(
        name="Host without its port",
        id="W213",
        fails="403",
        changes=[(HOST, "        proxy_set_header Host $host;\n")],
        text="whoever comes by port PORT is refused",
    ),
    Case(
        name="uwsgi's Host without its port",
        id="W213",
        fails="403",
        base="uwsgi",
        changes=[(UWSGI_HOST, "        uwsgi_param HTTP_HOST $host;")],
        text="whoever comes by port PORT is refused",
    ),
    Case(
        name="cut between pings",
        id="E216",
        fails="cut",
        changes=[(TIMEOUT, "        proxy_read_timeout 500ms;")],
        text="proxy_read_timeout is 0.5 s, and a silent websocket is pinged each 1 s",
    ),
    Case(
        name="uwsgi cut between pings",
        id="E216",
        fails="cut",
        base="uwsgi",
        changes=[("        uwsgi_read_timeout 60s;", "        uwsgi_read_timeout 500ms;")],
        text="uwsgi_read_timeout is 0.5 s",
    ),
    Case(
        name="HTTP/2 without TLS",
        id="E218",
        fails="no answer",
        changes=[(LISTEN, LISTEN.replace(";", " http2;"))],
        text="speaks HTTP/2 alone",
    ),
    Case(
        name="nobody is allowed",
        id="E219",
        fails="403",
        changes=inside("deny all;"),
        text="stands before every `allow`",
    ),
    Case(
        name="a password",
        id="W220",
        fails="401",
        changes=inside('auth_basic "friends"; auth_basic_user_file /etc/nginx/uwsgi_params;'),
        text="no page can send the password",
    ),
    Case(
        name="few connections of one address",
        id="W221",
        fails="503 after 2",
        changes=[(SERVER, f"limit_conn_zone $binary_remote_addr zone=one:1m;\n{SERVER}"), *inside("limit_conn one 2;")],
        text="more than 2 open websockets of one $binary_remote_addr",
    ),
    Case(
        name="another port",
        id="E222",
        fails="502",
        changes=[("    server 127.0.0.1:SITE;", "    server 127.0.0.1:1;")],
        text="127.0.0.1:1: nobody listens",
    ),
    Case(
        name="another socket",
        id="E222",
        fails="502",
        changes=[("    server 127.0.0.1:SITE;", "    server unix:/nonexistent/site.sock;")],
        text="there is no such socket",
    ),
    Case(
        name="a file that is no socket",
        id="E222",
        fails="502",
        changes=[("    server 127.0.0.1:SITE;", "    server unix:/etc/hostname;")],
        text="unix:/etc/hostname: it is no socket",
    ),
    Case(
        name="HTTP to uwsgi's socket",
        id="E224",
        fails="504",
        changes=[("    server 127.0.0.1:SITE;", "    server unix:UWSGI;"), (TIMEOUT, "proxy_read_timeout 2s;")],
        text="speaks uwsgi, and `proxy_pass http://tests_websockets` speaks http",
    ),
    Case(
        name="uwsgi to HTTP's port",
        id="E224",
        fails="400",
        base="uwsgi",
        changes=[("    server unix:UWSGI;", "    server 127.0.0.1:SITE;")],
        text="127.0.0.1:SITE speaks http, and `uwsgi_pass tests` speaks uwsgi",
    ),
    Case(
        name="few connections",
        id="W226",
        fails=r"no answer after \d",
        main=[("worker_connections 4096", "worker_connections 20")],
        settings={"MAX_SOCKETS": 50},
        text="There is room for 10 websockets",
    ),
    Case(
        name="few connections, and nobody said how many",
        id="I227",
        fails=r"no answer after \d",
        main=[("worker_connections 4096", "worker_connections 20")],
        text="There is room for 10 websockets",
    ),
    Case(
        name="few files",
        id="W228",
        fails=r"(500|no answer) after \d+",
        main=[("worker_rlimit_nofile 4096", "worker_rlimit_nofile 30")],
        text="worker_connections is 4096, and the limit of open files is 30",
    ),
    Case(
        name="few files for MAX_SOCKETS",
        id="W229",
        fails=r"(500|no answer) after \d+",
        main=[("worker_rlimit_nofile 4096", "worker_rlimit_nofile 60")],
        settings={"MAX_SOCKETS": 50},
        text="there are two for each of 30 websockets",
    ),
]


@pytest.fixture(scope="module")
def site(shared_redis: RedisServer) -> Iterator[Site]:
    with running_site(shared_redis) as site:
        yield site


@pytest.fixture(autouse=True)
def on_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be in no container, even if we are: browsers come by NGiNX' own ports."""
    monkeypatch.setattr("django_wsredis.checks.nginx.running.CONTAINER_MARKS", ())


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
    assert row(rows, "scheme").found == "https arrives as https, X-Forwarded-Proto: https"
    with running(main, site.port):
        context = trust(cert)
        headers = {"Origin": f"https://127.0.0.1:{site.port}"}
        with RawSocket(site.port, "layout?subscribe-broadcast", headers, tls=context) as browser:
            assert browser.answer.status == 101


def test_a_unix_socket_may_be_written_with_slashes(site: Site) -> None:
    main = site.files("uwsgi")
    text, count = re.subn(r"uwsgi_pass \w+;", f"uwsgi_pass unix://{site.socket};", printed(main).read_text())
    assert count
    printed(main).write_text(text)
    assert problems(look(main, site)) == []
    with running(main, site.port), RawSocket(site.port, "layout?subscribe-broadcast") as browser:
        assert browser.answer.status == 101


def test_websockets_may_be_told_apart_by_an_error_page(site: Site) -> None:
    main = site.files("split")
    apart = "error_page 418 = @websockets;\n        if ($http_upgrade = websocket) { return 418; }"
    change(
        printed(main),
        [("location /ws/ {", "location @websockets {"), ("location / {", "location / {\n        " + apart)],
    )
    assert problems(look(main, site)) == []
    with running(main, site.port), RawSocket(site.port, "layout?subscribe-broadcast") as browser:
        assert browser.answer.status == 101


# What is wrong is found, and a real NGiNX fails in that way


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.id} {case.name}")
def test_a_mistake_is_found_and_is_one(case: Case, site: Site) -> None:
    if case.id in ("E202", "E218") and program.find().version >= (1, 25, 1):
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

    def forget(self) -> None:
        """Drop all who wait."""
        self.listener.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.listener.accept()[0].close()

    def __enter__(self) -> Ear:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()


FORWARDED = "        proxy_set_header X-Forwarded-Proto $scheme;\n"
BELIEVED = {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")}


def test_what_stands_in_a_block_outside_holds_inside(site: Site) -> None:
    main = site.files("split")
    headers = UPGRADE + CONNECTION + HOST
    rest = (FORWARDED, "        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n")
    away = [(VERSION + headers, ""), *((line, "") for line in rest), (TIMEOUT, "")]
    change(printed(main), [*away, (LISTEN.replace("PORT", str(site.port)), f"{VERSION}{headers}    LISTEN\n")])
    change(printed(main), [("    LISTEN\n", LISTEN.replace("PORT", str(site.port)))])
    change(main, [("    access_log off;\n", "    access_log off;\n    proxy_read_timeout 2s;\n")])
    rows = look(main, site)
    assert problems(rows) == []
    assert row(rows, "proxy_read_timeout").found == "2 s; PING_INTERVAL is 1 s"
    with running(main, site.port):
        assert outcome(site.port, "layout?subscribe-broadcast", browser_headers(site)) == "101"
    change(main, [("proxy_read_timeout 2s", "proxy_read_timeout 500ms")])
    (problem,) = problems(look(main, site))
    assert (problem.id, problem.place.partition(":")[0]) == ("wsredis.E216", str(main))
    with running(main, site.port):
        assert outcome(site.port, "layout?subscribe-broadcast", browser_headers(site), is_watched=True) == "cut"


def test_what_the_site_believes_of_the_scheme_must_be_a_pair(site: Site) -> None:
    rows = look(site.files("split"), site, SECURE_PROXY_SSL_HEADER="HTTP_X_FORWARDED_PROTO")
    assert row(rows, "scheme").is_skipped
    assert problems(rows) == []


@pytest.mark.parametrize("is_broken", [False, True])
def test_w214_a_browser_may_say_that_it_uses_https(is_broken: bool, site: Site) -> None:
    main = site.files("split")
    with Ear() as ear:
        changes = [(f"127.0.0.1:{site.http};", f"127.0.0.1:{ear.port};"), *([(FORWARDED, "")] if is_broken else [])]
        change(printed(main), changes)
        found = problems(look(main, site, **BELIEVED))
        assert [problem.id for problem in found] == ["wsredis.W214"] * is_broken
        ear.forget()  # that was wscheck
        with running(main, site.port):
            request = f"GET /ws/layout HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nX-Forwarded-Proto: https\r\n\r\n"
            with socket.create_connection(("127.0.0.1", site.port), 5) as browser:
                browser.sendall(request.encode())
                assert ("X-Forwarded-Proto: https" in ear.hear()) is is_broken
                browser.recv(1000)


@pytest.mark.parametrize(("base", "scheme"), [("proxy", "ws"), ("uwsgi", "wss")])
def test_w215_the_site_takes_https_for_http(base: str, scheme: str, site: Site) -> None:
    """These sites believe no header, so that only uwsgi's protocol tells them of TLS."""
    cert, key = certificate(site.folder)
    main = site.files(base, "--certfile", str(cert), "--keyfile", str(key))
    found = problems(look(main, site))
    assert [problem.id for problem in found] == ["wsredis.W215"] * (base == "proxy")
    with running(main, site.port):
        site.tls = trust(cert)
        try:
            assert f"`{scheme}://127.0.0.1:{site.port}/ws/" in site.get("cursor/news")[1]
        finally:
            site.tls = None


@pytest.fixture
def believing(site: Site) -> Iterator[int]:
    """Yield the port of the site with SECURE_PROXY_SSL_HEADER."""
    given, port = site.settings, free_port()
    site.settings = {**given, **BELIEVED}
    try:
        process = run_runwsserver(site, f"127.0.0.1:{port}")
    finally:
        site.settings = given
    yield port
    process.stop()
    site.sites.remove(process)


@pytest.mark.parametrize(("value", "scheme"), [("http", "ws"), ("$scheme", "wss")])
def test_w215_the_header_says_http(value: str, scheme: str, site: Site, believing: int) -> None:
    cert, key = certificate(site.folder)
    main = site.files("proxy", "--certfile", str(cert), "--keyfile", str(key))
    change(
        printed(main),
        [
            ("X-Forwarded-Proto $scheme;", f"X-Forwarded-Proto {value};"),
            (f"127.0.0.1:{site.http};", f"127.0.0.1:{believing};"),
        ],
    )
    found = [(problem.id, problem.place) for problem in problems(look(main, site, **BELIEVED))]
    assert found == [("wsredis.W215", f"{printed(main)}:{line_of(main, 'X-Forwarded-Proto')}")] * (value == "http")
    with running(main, site.port):
        site.tls = trust(cert)
        try:
            assert f"`{scheme}://127.0.0.1:{site.port}/ws/" in site.get("cursor/news")[1]
        finally:
            site.tls = None


@pytest.mark.parametrize("value", ["$http_x_forwarded_proto", "https"])
def test_where_another_proxy_speaks_tls_before_it_is_no_mistake_to_say_so(value: str, site: Site) -> None:
    main = site.files("split")
    change(printed(main), [(FORWARDED, f"        proxy_set_header X-Forwarded-Proto {value};\n")])
    assert problems(look(main, site, **BELIEVED)) == []


@pytest.mark.parametrize("is_broken", [False, True])
def test_w211_every_page_may_connect_if_the_origin_is_withheld(is_broken: bool, site: Site) -> None:
    main = site.files("split")
    change(printed(main), [(FORWARDED, FORWARDED + '        proxy_set_header Origin "";\n')] if is_broken else [])
    found = problems(look(main, site))
    assert [problem.id for problem in found] == ["wsredis.W211"] * is_broken
    with running(main, site.port):
        foreign = {"Host": f"127.0.0.1:{site.port}", "Origin": "https://evil.example"}
        assert outcome(site.port, "layout?subscribe-broadcast", foreign) == ("101" if is_broken else "403")


def test_w211_uwsgi_params_replace_headers_too(site: Site) -> None:
    main = site.files("uwsgi")
    change(printed(main), [(UWSGI_HOST, f'{UWSGI_HOST}\n        uwsgi_param HTTP_DNT "";')])
    assert problems(look(main, site)) == []
    change(printed(main), [("HTTP_DNT", "HTTP_ORIGIN")])
    assert [problem.id for problem in problems(look(main, site))] == ["wsredis.W211"]


def test_w217_hardly_longer_than_from_ping_to_ping_cuts_when_a_worker_is_late(site: Site) -> None:
    main = site.files("split")
    change(printed(main), [(TIMEOUT, "        proxy_read_timeout 1100ms;")])
    (problem,) = problems(look(main, site))
    assert problem.id == "wsredis.W217"
    with running(main, site.port), RawSocket(site.port, "layout?subscribe-broadcast") as browser:
        with site.frozen():
            assert ends(browser)
        well = browser_headers(site)
        wait_until(lambda: outcome(site.port, "layout?subscribe-broadcast", well) == "101", 20, "its waking up")


def test_w223_one_of_two_servers_is_not_there(site: Site) -> None:
    main = site.files("split")
    here = f"    server 127.0.0.1:{site.http};"
    change(printed(main), [(here, f"{here}\n    server 127.0.0.1:1;")])
    (problem,) = problems(look(main, site))
    assert problem.id == "wsredis.W223"
    assert "127.0.0.1:1: nobody listens" in problem.text
    with running(main, site.port) as process:
        seen = [outcome(site.port, "layout?subscribe-broadcast", browser_headers(site)) for _ in range(4)]
        assert seen == ["101"] * 4
        process.wait_for(r"connect\(\) failed .*127\.0\.0\.1:1", 5)
    change(printed(main), [("server 127.0.0.1:1;", "server 127.0.0.1:1 down;")])
    assert problems(look(main, site)) == []


def test_a_file_that_is_named_is_to_be_readable(site: Site) -> None:
    main = site.files("split")
    main.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # who may read everything
            os.seteuid(pwd.getpwnam("nobody").pw_uid)
        (problem,) = problems(look(main, site))
    finally:
        os.seteuid(user)
        main.chmod(0o644)
    assert problem.id == "wsredis.E203"
    assert str(main) in problem.text
    assert "sudo ./manage.py wscheck" in problem.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a socket to somebody else")
@pytest.mark.parametrize("what", ["the socket", "a folder above"])
def test_e225_nginx_may_not_open_the_socket(what: str, site: Site) -> None:
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
            assert problem.id == "wsredis.E225"
            assert f"NGiNX runs as nobody, and may not open {path}: " in problem.text
            assert "rwx------ of root:root" in problem.text
            assert problem.place == f"{printed(main)}:{line_of(main, str(path))}"
            assert outcome(site.port, "layout?subscribe-broadcast", browser_headers(site)) == "502"
    change(main, [("daemon off;", "daemon off;\nuser root;")])  # it does not run now: its file says who it will be
    assert [problem.id for problem in problems(look(main, site))] == ["wsredis.E222"]
    change(main, [("user root;", "user www-data;")])
    assert {problem.id for problem in problems(look(main, site))} == {"wsredis.E222", "wsredis.E225"}


def test_w228_where_no_limit_is_written_that_of_the_running_one_counts(site: Site) -> None:
    main = site.files("split")
    change(main, [("worker_rlimit_nofile 4096;\n", "")])
    (problem,) = problems(look(main, site))
    assert (problem.id, problem.place) == ("wsredis.W228", f"{main}:1")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with running(main, site.port):
        found = row(look(main, site), "worker_rlimit_nofile")
        assert found.found.startswith(f"{soft}, of the NGiNX that runs; × 1 worker")
        assert [problem.id for problem in found.problems] == ["wsredis.W228"] * (soft < 4096)


@pytest.mark.parametrize("base", ["proxy", "uwsgi"])
def test_w555_ports_are_needed_by_tcp_alone(base: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    main = site.files(base)
    wanted = {"WSREDIS": {"MAX_SOCKETS": 1500}}
    assert problems(look(main, site, **wanted)) == []
    monkeypatch.setattr(kernel, "port_range", lambda: range(50000, 51000))
    found = row(look(main, site, **wanted), "ports")
    assert [problem.id for problem in found.problems] == ["wsredis.W555"] * (base == "proxy")
    if base == "proxy":
        assert found.problems[0].place == f"{printed(main)}:{line_of(main, 'proxy_pass http')}"
        assert found.found == f"1,000 to each of 127.0.0.1:{site.http}; MAX_SOCKETS 1,500"
    else:
        assert found.found == "none is needed: no TCP to the site"


@pytest.mark.parametrize(
    ("key", "limit", "is_low"),
    [
        ("$binary_remote_addr", 99, True),
        ("$binary_remote_addr", 100, False),
        ("$binary_remote_addr", 500, False),
        ("$server_name", 500, True),
        ("$server_name", 1000, False),
    ],
)
def test_w221_a_high_limit_is_well(key: str, limit: int, is_low: bool, site: Site) -> None:
    main = site.files("split")
    zone = f"limit_conn_zone {key} zone=one:1m;\n{SERVER}"
    change(printed(main), [(SERVER, zone), *inside(f"limit_conn one {limit};")])
    assert [problem.id for problem in problems(look(main, site))] == ["wsredis.W221"] * is_low
    if not is_low:
        with running(main, site.port):
            assert crowded(site.port, "layout?subscribe-broadcast", browser_headers(site)) == "40 are well"


@pytest.mark.parametrize(
    ("directive", "seen"),
    [
        ("auth_request /ask;", "403"),
        ("limit_req zone=one;", "503 after 1"),
    ],
)
def test_what_only_nginx_decides_is_not_called_well(directive: str, seen: str, site: Site) -> None:
    main = site.files("split")
    ask = "    location = /ask { return 403; }\n"
    zone = f"limit_req_zone $binary_remote_addr zone=one:1m rate=1r/m;\n{SERVER}"
    change(printed(main), [(SERVER, zone), (WEBSOCKETS, f"{ask}{WEBSOCKETS}        {directive}\n")])
    rows = look(main, site)
    assert problems(rows) == []
    name = directive.split()[0]
    found = row(rows, name)
    assert found.verdict == "not checked"
    assert found.found.startswith(f"{printed(main)}:{line_of(main, directive)}: `{directive[:-1]}`")
    assert (row(rows, "access").found == "for everybody") == (name == "limit_req")
    with running(main, site.port):
        assert crowded(site.port, "layout?subscribe-broadcast", browser_headers(site)).startswith(seen)


@pytest.mark.parametrize("directive", ["auth_request off;", "ssl_verify_client off;", "ssl_verify_client on;"])
def test_what_guards_nothing_is_not_told(directive: str, site: Site) -> None:
    main = site.files("split")  # without TLS nobody is asked for a certificate
    change(printed(main), beside(directive))
    rows = look(main, site)
    assert row(rows, "access").found == "for everybody"
    assert [each for each in rows if each.checked == directive.split()[0]] == []


def test_a_certificate_that_is_asked_for_is_not_called_well(site: Site) -> None:
    cert, key = certificate(site.folder)
    main = site.files("split", "--certfile", str(cert), "--keyfile", str(key))
    with running(main, site.port):
        assert secure_status(site, cert) == 101
    change(printed(main), beside(f"ssl_client_certificate {cert}; ssl_verify_client on;"))
    rows = look(main, site, **BELIEVED)
    assert problems(rows) == []
    found = row(rows, "ssl_verify_client")
    assert found.verdict == "not checked"
    assert found.found.startswith(f"{printed(main)}:{line_of(main, 'ssl_verify_client')}: ")
    assert row(rows, "access").found == "neither addresses nor passwords"
    with running(main, site.port):
        assert secure_status(site, cert) == 400  # "No required SSL certificate was sent"
        assert secure_status(site, cert, key) == 101


def secure_status(site: Site, cert: Path, key: Path | None = None) -> int:
    """Return the answer to a handshake by TLS. key: where the browser shows the certificate as its own."""
    context = trust(cert)
    if key is not None:
        context.load_cert_chain(cert, key)
    headers = {"Origin": f"https://127.0.0.1:{site.port}"}
    with RawSocket(site.port, "layout?subscribe-broadcast", headers, tls=context) as browser:
        return browser.answer.status


@pytest.mark.parametrize(
    ("zone", "limit", "found"),
    [
        ("limit_req_zone $binary_remote_addr zone=one:1m rate=1r/m;", "limit_req zone=one;", "`limit_req zone=one`"),
        ("limit_conn_zone $binary_remote_addr zone=one:1m;", "limit_conn one 2;", "`limit_conn one 2`"),
    ],
)
def test_a_limit_that_is_only_tried_out_refuses_nobody(zone: str, limit: str, found: str, site: Site) -> None:
    main = site.files("split")
    name = limit.split()[0]
    change(printed(main), [(SERVER, f"{zone}\n{SERVER}"), *inside(f"{limit} {name}_dry_run on;")])
    rows = look(main, site)
    assert problems(rows) == []
    assert row(rows, name).verdict == "ok"
    assert row(rows, name).found.startswith(found)
    with running(main, site.port):
        assert crowded(site.port, "layout?subscribe-broadcast", browser_headers(site)) == "40 are well"


USERS = "auth_basic x; auth_basic_user_file /etc/nginx/uwsgi_params;"


@pytest.mark.parametrize(
    ("directives", "ids", "status"),
    [
        ("allow 127.0.0.1; deny all;", set(), "101"),
        ("deny 10.0.0.0/8;", set(), "101"),
        (f"satisfy any; allow 127.0.0.1; deny all; {USERS}", set(), "101"),
        (f"satisfy any; deny all; {USERS}", {"wsredis.W220"}, "401"),
        (f"deny all; {USERS}", {"wsredis.E219"}, "403"),
        (f"{USERS} auth_basic off;".replace("auth_basic x;", ""), set(), "101"),
        ("auth_basic x;", set(), "101"),  # without a file of users nobody is asked
    ],
)
def test_who_may_come_in(directives: str, ids: set[str], status: str, site: Site) -> None:
    main = site.files("split")
    change(printed(main), inside(directives))
    assert {problem.id for problem in problems(look(main, site))} == ids
    with running(main, site.port):
        assert outcome(site.port, "layout?subscribe-broadcast", browser_headers(site)) == status
