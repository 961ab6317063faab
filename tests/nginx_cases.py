"""NGiNX files that are wrong in one thing each, made from what `wscheck --emit nginx` prints; and how it then fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
        id="E215",
        fails="cut",
        changes=[(TIMEOUT, "        proxy_read_timeout 500ms;")],
        text="proxy_read_timeout is 0.5 s, and a silent websocket is pinged each 1 s",
    ),
    Case(
        name="uwsgi cut between pings",
        id="E215",
        fails="cut",
        base="uwsgi",
        changes=[("        uwsgi_read_timeout 60s;", "        uwsgi_read_timeout 500ms;")],
        text="uwsgi_read_timeout is 0.5 s",
    ),
    Case(
        name="HTTP/2 without TLS",
        id="E217",
        fails="no answer",
        changes=[(LISTEN, LISTEN.replace(";", " http2;"))],
        text="speaks HTTP/2 alone",
    ),
    Case(
        name="nobody is allowed",
        id="E218",
        fails="403",
        changes=inside("deny all;"),
        text="stands before every `allow`",
    ),
    Case(
        name="a password",
        id="W219",
        fails="401",
        changes=inside('auth_basic "friends"; auth_basic_user_file /etc/nginx/uwsgi_params;'),
        text="no page can send the password",
    ),
    Case(
        name="few connections of one address",
        id="W220",
        fails="503 after 2",
        changes=[(SERVER, f"limit_conn_zone $binary_remote_addr zone=one:1m;\n{SERVER}"), *inside("limit_conn one 2;")],
        text="more than 2 open websockets of one $binary_remote_addr",
    ),
    Case(
        name="another port",
        id="E221",
        fails="502",
        changes=[("    server 127.0.0.1:SITE;", "    server 127.0.0.1:1;")],
        text="127.0.0.1:1: nobody listens",
    ),
    Case(
        name="another socket",
        id="E221",
        fails="502",
        changes=[("    server 127.0.0.1:SITE;", "    server unix:/nonexistent/site.sock;")],
        text="there is no such socket",
    ),
    Case(
        name="a file that is no socket",
        id="E221",
        fails="502",
        changes=[("    server 127.0.0.1:SITE;", "    server unix:/etc/hostname;")],
        text="unix:/etc/hostname: nobody listens",
    ),
    Case(
        name="few connections",
        id="W224",
        fails=r"no answer after \d",
        main=[("worker_connections 4096", "worker_connections 20")],
        settings={"MAX_SOCKETS": 50},
        text="There is room for 10 websockets",
    ),
    Case(
        name="few connections, and nobody said how many",
        id="I225",
        fails=r"no answer after \d",
        main=[("worker_connections 4096", "worker_connections 20")],
        text="There is room for 10 websockets",
    ),
    Case(
        name="few files",
        id="W226",
        fails=r"(500|no answer) after \d+",
        main=[("worker_rlimit_nofile 4096", "worker_rlimit_nofile 30")],
        text="worker_connections is 4096, and the limit of open files is 30",
    ),
]
