"""Which server and which location a request reaches: what wscheck says, and what a real NGiNX does."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings

from django_wsredis.checks.nginx.choosing import meant, ours
from django_wsredis.checks.nginx.locations import scope
from django_wsredis.checks.nginx.probing import Probed
from django_wsredis.checks.nginx.reaching import arrivals
from django_wsredis.checks.nginx.reading import Configuration, Directive, read_file
from django_wsredis.checks.nginx.routes import Route, follow
from django_wsredis.checks.nginx.servers import doors
from django_wsredis.checks.nginx.variables import Request, Variables, seconds, variables

from . import layouts
from .servers import Process, free_port, wait_until

LOCATIONS = r"""
    location / { NAMED }
    location = / { NAMED }
    location /ws/ {
        NAMED_UNLESS_INSIDE
        location /ws/inside/ {
            location = /ws/inside/exact { NAMED }
            location ~ \.deep$ { NAMED }
        }
        location ~ \.inner$ { NAMED }
    }
    location = /ws/exact { NAMED }
    location =/ws/glued { NAMED }
    location ^~ /ws/first/ { NAMED }
    location ^~/ws/glued/ { NAMED }
    location /wsx { NAMED }
    location ~ \.js$ { NAMED }
    location ~* \.(PNG|gif)$ { NAMED }
    location ~ ^/ws/(?<tail>early|inside)/x { NAMED }
    location ~ ^/ws/early/xy { NAMED }
    location ~*\.glued$ { NAMED }
    location /tried/ { try_files $uri $uri/ @later; }
    location @later { NAMED }
    location /moved/ { rewrite ^/moved/(.*)$ /ws/$1 last; }
    location /kept/ { rewrite ^/kept/(.*)$ /ws/$1 break; NAMED }
    location /chosen/ { if ($http_upgrade = "websocket") { rewrite ^ /wsx last; } NAMED }
    location /refused/ { if ($refuse) { rewrite ^ /wsx last; } NAMED }
    location /old/ { if ($http_upgrade !~* ^web) { rewrite ^ /wsx last; } NAMED }
    location /files/ { if (!-f $request_filename) { rewrite ^ /ws/x.inner last; } NAMED }
    location /set/ { set $to /wsx; set $there $to; if ($there) { rewrite ^ $there last; } NAMED }
    location /fallback/ { try_files $uri /ws/exact; }
    location /captured/ { rewrite ^/captured/(?<one>\w+)/(\w+)$ /ws/$one.$2; NAMED }
    location /secret/ { internal; NAMED }
    location /told/ { rewrite ^/told/ /secret/x last; }
"""
URIS = [
    "/", "/x", "/ws", "/ws/", "/ws/news", "/ws/exact", "/ws/exactly", "/ws/glued", "/ws/glued/x",
    "/ws/first/x.js", "/ws/x.js", "/ws/x.JS", "/ws/x.Gif", "/ws/inside/", "/ws/inside/exact",
    "/ws/inside/x.js", "/ws/inside/a.deep", "/ws/inside/x", "/ws/x.inner", "/ws/inside/a.inner", "/wsx",
    "/wsx.js", "/ws/early/x", "/ws/early/xy", "/ws/news.glued", "/tried/a", "/moved/news", "/moved/exact",
    "/kept/exact", "/chosen/x", "/refused/x", "/old/x", "/files/x", "/set/x", "/fallback/x", "/captured/a/js",
    "/captured/a/inner", "/told/x",
]  # fmt: skip


class Server:
    """A real NGiNX with one site's file."""

    def __init__(self, folder: Path, text: str, port: int) -> None:
        (folder / "site.conf").write_text(text)
        self.main, self.port = folder / "nginx.conf", port
        command = layouts.nginx(folder, folder / "site.conf")
        self.process = Process(command, cwd=folder, **layouts.as_nobody())
        wait_until(self.listens, 10, f"NGiNX: {self.process.output}")

    def listens(self) -> bool:
        assert self.process.popen.poll() is None, self.process.output
        try:
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        except OSError:
            return False
        return True

    def get(self, uri: str, host: str = "localhost") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", uri, headers={"Host": host, "Upgrade": "websocket", "Connection": "Upgrade"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    @property
    def configuration(self) -> Configuration:
        return read_file(self.main, "/etc/nginx")


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wsr-") as path:
        folder = Path(path)
        folder.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody", "nogroup")
        yield folder


def with_names(text: str) -> str:
    """Let each location answer with its own line of the file, as the reader counts it, and the URI at that point."""
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        answer = f"return 200 {number}$uri;"
        inside = f'if ($uri !~ "^/ws/inside/|inner$") {{ {answer} }}'
        lines[number - 1] = line.replace("NAMED_UNLESS_INSIDE", inside).replace("NAMED", answer)
    return "\n".join(lines)


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Server]:
    port = free_port()
    head = f"map $http_upgrade $refuse {{ default 0; ~*^WEB 1; }}\nserver {{\n    listen 127.0.0.1:{port};\n"
    server = Server(scratch, with_names(f"{head}{LOCATIONS}}}\n"), port)
    yield server
    server.process.stop()


def request(uri: str, port: int = 80, host: str = "localhost") -> Request:
    return Request(host=host, port=port, has_tls=False, uri=uri)


def route_of(configuration: Configuration, asked: Request) -> Route:
    (site,) = configuration.http.all("server")
    return follow(configuration.http, site, asked)


@pytest.mark.parametrize("uri", URIS)
def test_the_location_is_the_one_that_nginx_takes(uri: str, server: Server) -> None:
    route = route_of(server.configuration, request(uri, server.port))
    status, body = server.get(uri)
    if route.stop is None:
        assert status in (301, 404), (route.location.text, body)  # no file, and nothing that answers
    else:
        assert (status, body) == (200, route.variables.expand(route.stop.args[1]))


def test_what_is_internal_answers_404_unless_it_was_rewritten(server: Server) -> None:
    assert server.get("/secret/x")[0] == 404
    assert route_of(server.configuration, request("/secret/x")).stop.name == "internal"


HOSTS = [
    "example.com", "EXAMPLE.com", "www.example.com", "a.b.example.com", "shop.example.org", "shop.example.de",
    "127.0.0.1", "a1.test", "deep.shop.example.org", "nobody.invalid", "sub.dot.test", "dot.test", "shop.x",
    "trailing.de",
]  # fmt: skip
NAMES = [
    "first.invalid", "example.com", "*.example.com", "shop.*", "*.shop.example.org", r"~^a\d\.test$", ".dot.test",
    "*.example.org", "a.b.*", "trailing.*", "*.de",
]  # fmt: skip


@pytest.fixture(scope="module")
def named_servers(scratch: Path) -> Iterator[Server]:
    port = free_port()
    folder = scratch / "names"
    folder.mkdir()
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
    blocks = "".join(
        f'server {{ listen 127.0.0.1:{port}; server_name "{name}"; return 200 {number}; }}\n'
        for number, name in enumerate(NAMES)
    )
    server = Server(folder, blocks, port)
    yield server
    server.process.stop()


@pytest.mark.parametrize("host", HOSTS)
def test_the_server_is_the_one_that_nginx_takes(host: str, named_servers: Server) -> None:
    (door,) = doors(named_servers.configuration.http)
    chosen, is_named = door.choose(host)
    _, body = named_servers.get("/", host)
    assert chosen.all("return")[0].args[1] == body
    assert is_named is (body != "0")


# What is meant, of several


def read(tmp_path: Path, text: str) -> Configuration:
    path = tmp_path / "site.conf"
    path.write_text(text)
    configuration = read_file(path, "/etc/nginx")
    assert configuration.faults == []
    return configuration


REDIRECTING = "server { server_name a.example; return 301 https://$host$request_uri; }\n"
WEBSOCKETS = "location /ws/ { proxy_pass http://s; }"
OURS = "location / { proxy_pass http://127.0.0.1:8000; }"


@pytest.mark.parametrize(
    ("text", "hosts", "seen"),
    [
        # as printed, and the one of Debian beside it
        (
            f"server {{ listen 80 default_server; root /srv; }} server {{ server_name a.example; {OURS} }}",
            ["a.example"],
            ["ws://a.example/"],
        ),
        # redirected to TLS
        (
            REDIRECTING + f"server {{ listen 443 ssl; server_name a.example; {OURS} }}",
            ["a.example"],
            ["ws://a.example/ 301", "wss://a.example/"],
        ),
        # any host: the one with a location for websockets
        (
            f"server {{ server_name b.example; {OURS} }} server {{ server_name a.example; {WEBSOCKETS} }}",
            ["*"],
            ["ws://a.example/"],
        ),
        # by TLS it is the one for every name
        (
            REDIRECTING + f"server {{ listen 443 ssl; {OURS} }}",
            ["a.example"],
            ["ws://a.example/ 301", "wss://a.example/"],
        ),
        (f"server {{ {OURS} }}", ["*"], ["ws://localhost/"]),
        (f"server {{ server_name ~^(www\\.)?a\\.example$; {OURS} }}", [".a.example"], ["ws://a.example/"]),
        (
            f"server {{ listen 8080; listen [::]:8080; server_name a.example; {OURS} }}",
            ["a.example"],
            ["ws://a.example:8080/"],
        ),
        (f"server {{ listen unix:/run/x.sock; {OURS} }}", ["a.example"], ["ws://a.example/"]),
        (f"server {{ listen 443 quic; listen 443 ssl; {OURS} }}", ["a.example"], ["wss://a.example/"]),
        # a domain with all below it: the names of the servers that are of it
        (
            f"server {{ root /srv; }} server {{ server_name app.a.example; {OURS} }}",
            [".a.example"],
            ["ws://app.a.example/"],
        ),
        # nothing of ours
        ("server { root /srv; }", ["a.example"], []),
        ("server { server_name b.example; root /srv; }", ["*"], []),
        (
            f"server {{ server_name b.example; root /srv; }} server {{ server_name a.example; {OURS} }}",
            ["*"],
            ["ws://a.example/"],
        ),
    ],
)
def test_the_servers_that_are_looked_at(text: str, hosts: list[str], seen: list[str], tmp_path: Path) -> None:
    with override_settings(ALLOWED_HOSTS=hosts):
        candidates = meant(arrivals(read(tmp_path, text).http, "/ws/"))
        found = ours(candidates, defaultdict(Probed), lambda arrival: False)
    shown = [f"{arrival.shown.partition('ws/anything')[0]}{' 301' * arrival.route.redirects}" for arrival in found]
    assert [text.replace("ws/anything", "") for text in shown] == seen


# Small parts


@pytest.mark.parametrize(
    ("text", "value"),
    [("60", 60), ("1m30s", 90), ("500ms", 0.5), ("1h", 3600), ("1m 30s", 90), ("soon", None), ("", None)],
)
def test_times(text: str, value: float | None) -> None:
    assert seconds(text) == value


def directives(tmp_path: Path, text: str) -> Directive:
    return read(tmp_path, text).http


def test_variables_of_a_handshake(tmp_path: Path) -> None:
    http = directives(
        tmp_path, "map $http_upgrade $a { default x; websocket y; }\nmap $arg_q $b { '' none; default $a; }"
    )
    known = variables(http, Request(host="a.example", port=8443, has_tls=True, uri="/ws/x?q=1"))
    shown = {
        "$a ${b}": "y none",
        "$http_host": "a.example:8443",
        "$host$is_request_port$request_port": "a.example:8443",
        "$scheme://$host:$server_port$uri": "https://a.example:8443/ws/x",
        "$args": "q=1",
        "$nobody_knows": None,
    }
    assert {text: known.expand(text) for text in shown} == shown
    assert isinstance(known, Variables)


@pytest.mark.parametrize(
    ("args", "modifier", "name"),
    [
        ("/ws/", "", "/ws/"),
        ("= /x", "=", "/x"),
        ("=/x", "=", "/x"),
        ("~* x", "~*", "x"),
        ("^~/x", "^~", "/x"),
        ("@x", "@", "@x"),
    ],
)
def test_the_modifiers_of_a_location(args: str, modifier: str, name: str, tmp_path: Path) -> None:
    (location,) = directives(tmp_path, f"server {{ location {args} {{ }} }}").all("server")[0].all("location")
    found = scope(location)
    assert (found.modifier, found.name) == (modifier, name)
