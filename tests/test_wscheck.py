"""`manage.py wscheck --emit`: configurations, as an operator gets to see them. tests/test_layouts.py runs them."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_wsredis.configurations import KINDS
from django_wsredis.configurations.addresses import Address, parse

from .layouts import PROXIES, certificate, check
from .servers import free_port, run_manage

NOWHERE = "unix:///nonexistent/redis.sock"


def emit(kind: str, *options: str, **settings: Any) -> str:
    """Return what is printed."""
    output = io.StringIO()
    with override_settings(**settings):
        call_command("wscheck", "--emit", kind, *options, stdout=output)
    return output.getvalue()


def refused(*arguments: str, **settings: Any) -> str:
    """Return the one line that refuses a command."""
    with pytest.raises(CommandError) as raised, override_settings(**settings):
        call_command("wscheck", *arguments)
    text = str(raised.value)
    assert "\n" not in text
    return text


# What is printed


@pytest.mark.parametrize("settings", [{}, {"STATIC_ROOT": "/srv/a site/static"}], ids=["plain", "with static files"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_pleasant_to_read(kind: str, settings: dict[str, Any]) -> None:
    text = emit(kind, **settings)
    assert text == emit(kind, **settings)
    assert not re.search(r"\{[{%#]|[%#]\}|None|\n\n\n| \n|\t", text)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert max(map(len, text.splitlines())) <= 130
    assert f"wscheck --emit {kind}`" in text


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("nginx", ["location /live/ {", "proxy_read_timeout 150s;", "server_name example.com .example.org;"]),
        ("apache", ["Timeout 150", "ServerName example.com", "ServerAlias *.example.org", '"/live/" "http://']),
        ("haproxy", ["timeout tunnel 150s", "{ path_beg /live/ }"]),
        ("uwsgi", ["worker-reload-mercy = 40", "module = tests.project.wsgi:application"]),
        ("uwsgi-emperor", ["route = ^/live/ uwsgi:", "reload-mercy = 40"]),
        ("gunicorn", ["graceful_timeout = 40", 'wsgi_app = "tests.project.wsgi:application"']),
        ("systemd", ["TimeoutStopSec=40", "runwsserver --workers 2"]),
    ],
)
def test_it_is_made_from_the_projects_settings(kind: str, lines: list[str]) -> None:
    options = ["--ws-upstream", "127.0.0.1:9000"] if kind in PROXIES else []
    text = emit(
        kind, *options, WEBSOCKET_URL="/live/", ALLOWED_HOSTS=["example.com", ".example.org"],
        WSREDIS={"PING_INTERVAL": 50, "DRAIN_SECONDS": 29.5},
    )  # fmt: skip
    for line in lines:
        assert line in text


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("nginx", "    listen 443 ssl;"),
        ("apache", "<VirtualHost *:443>"),
        ("haproxy", "    bind :443 ssl crt"),
        ("uwsgi", "https = :443,"),
    ],
)
def test_a_certificate_means_port_443_and_its_whole_path(kind: str, line: str) -> None:
    text = emit(kind, "--certfile", "site.pem")
    assert line in text
    assert os.path.abspath("site.pem") in text


def test_any_host_is_served_where_allowed_hosts_says_so() -> None:
    assert "server_name _;" in emit("nginx", ALLOWED_HOSTS=["*"])
    for kind in ("nginx", "apache"):
        assert "example.com" in emit(kind, ALLOWED_HOSTS=["", "https://wrong", "example.com"])
    assert "ServerName" not in emit("apache", ALLOWED_HOSTS=["*"])


def test_static_files_are_served_where_the_site_has_some_of_its_own() -> None:
    assert 'alias "/srv/static/";' in emit("nginx", STATIC_ROOT="/srv/static/")
    assert "static-map = /static/=/srv/static" in emit("uwsgi", "--listen", "8000", STATIC_ROOT="/srv/static")
    assert "static" not in emit("uwsgi", STATIC_ROOT="/srv/static")  # NGiNX is in front
    assert "set STATIC_ROOT, run `manage.py collectstatic`" in emit("nginx")
    assert "static" not in emit("nginx", STATIC_URL="https://cdn.example.com/static/", STATIC_ROOT="/srv/static")


def test_a_developers_settings_are_no_reason_for_a_worker_to_be_killed_in_its_drain() -> None:
    assert "worker-reload-mercy = 15" in emit("uwsgi", DEBUG=True)
    assert "DEBUG is on" in run_manage("wscheck", "--emit", "nginx", redis_url=NOWHERE, settings={"DEBUG": True}).stderr


def test_several_files_are_printed_with_their_names_and_can_be_written(folder: Path) -> None:
    text = emit("uwsgi-emperor")
    names = re.findall(r"(?m)^# ===== (.*) =====$", text)
    assert names == ["uwsgi.ini", "vassals/pages.ini", "vassals/websockets.ini"]
    said = emit("uwsgi-emperor", "--output", str(folder))
    assert said.splitlines() == [f"{folder}/{name}" for name in names]
    assert text == "\n".join(f"# ===== {name} =====\n{(folder / name).read_text()}" for name in names)


def test_a_file_is_never_replaced(folder: Path) -> None:
    (folder / "vassals").mkdir()
    (folder / "vassals/pages.ini").write_text("mine")
    assert refused("--emit", "uwsgi-emperor", "--output", str(folder)).endswith(
        "pages.ini is there already; remove it first."
    )
    assert [path.name for path in folder.iterdir()] == ["vassals"]
    assert "Cannot write" in refused("--emit", "nginx", "--output", str(folder / "vassals/pages.ini"))


def test_it_needs_neither_a_database_nor_redis() -> None:
    done = run_manage("wscheck", "--emit", "nginx", redis_url=NOWHERE, env={"TEST_DATABASE": "/nonexistent/db"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# tests behind NGiNX")


# What is wrong


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nginx", "--workers", "2"], "--workers has no meaning for nginx; it takes --certfile, --keyfile, --listen,"),
        (["gunicorn", "--upstream", "8000"], "--upstream has no meaning for gunicorn; it takes --listen, --module,"),
        (["nginx", "--listen", "somewhere"], "'somewhere' is no address; write 8000, 127.0.0.1:8000, "),
        (["nginx", "--upstream", "99999"], "'99999' is no address"),
        (["nginx", "--upstream", "8000", "--upstream", "uwsgi://8001"], "--upstream must all speak http or all uwsgi"),
        (["nginx", "--timeout", "20"], "--timeout 20 would cut sockets between pings: PING_INTERVAL is 20"),
        (["nginx", "--keyfile", "/key.pem"], "--keyfile needs --certfile"),
        (["apache", "--upstream", "uwsgi://8000"], "apache speaks HTTP here, not uwsgi://"),
        (["apache", "--upstream", "8000", "--upstream", "8001"], "apache proxies to one --upstream"),
        (["haproxy", "--certfile", "/c.pem", "--keyfile", "/k.pem"], "haproxy wants one file with both"),
        (["uwsgi", "--timeout", "60"], "only uwsgi's --router has a --timeout"),
        (
            ["uwsgi", "--router", "--listen", "/s.sock"],
            "uwsgi's router is for browsers: let it --listen on a port, for http",
        ),
        (["uwsgi-emperor", "--upstream", "8000"], "the Emperor's --upstream is one socket of its vassal"),
        (["gunicorn", "--listen", "uwsgi://8000"], "gunicorn speaks HTTP here, not uwsgi://"),
        (["gunicorn", "--module", "nonsense"], "'nonsense' is no WSGI application; write module:name"),
        (["nginx", "--certfile", '/a"b'], "has a character that no configuration can hold"),
        (["uwsgi", "--workers", "0"], "--workers: '0' is not a whole number above 0"),
        (["nonsense"], "--emit: invalid choice: 'nonsense'"),
    ],
)
def test_a_wrong_option_is_said_in_one_line(arguments: list[str], said: str) -> None:
    assert said in refused("--emit", *arguments)


def test_a_wrong_setting_is_said_in_one_line() -> None:
    said = refused("--emit", "nginx", WSREDIS={"PING_INTERVALL": 1})
    assert said == "WSREDIS has an unknown key 'PING_INTERVALL'. Did you mean 'PING_INTERVAL'?"
    assert "WSGI_APPLICATION is not set" in refused("--emit", "uwsgi", WSGI_APPLICATION=None)


def test_gunicorn_has_threads() -> None:
    assert 'worker_class = "gthread"' in emit("gunicorn")
    assert "threads = 8 " in emit("gunicorn")
    assert "threads = 16 " in emit("gunicorn", "--threads", "16")


def test_the_examples_of_its_help_are_right() -> None:
    done = run_manage("wscheck", "--help", redis_url=NOWHERE)
    lines = re.findall(r"(?m)^  \./manage\.py wscheck --emit (.*?)(?: > .*)?$", done.stdout)
    assert len(lines) == 10
    for line in lines:
        assert emit(*line.partition(" --output")[0].partition(" --against")[0].split())


# What the servers' own checkers say


ADDRESSES = [
    [],
    ["--upstream", "8001"],
    ["--upstream", "/run/site.sock", "--ws-upstream", "127.0.0.1:8002"],
    ["--upstream", "[::1]:8001"],
]
NGINX_ADDRESSES = [
    ["--upstream", "8001", "--upstream", "8002"],
    ["--upstream", "uwsgi:///run/a.sock", "--ws-upstream", "/run/b.sock"],
    ["--upstream", "uwsgi://8001", "--ws-upstream", "uwsgi://8002", "--ws-upstream", "uwsgi://8003"],
]


@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [(kind, options) for kind in PROXIES for options in ADDRESSES]
    + [("nginx", options) for options in NGINX_ADDRESSES],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_proxys_own_checker_has_no_complaint(folder: Path, kind: str, options: list[str], has_tls: bool) -> None:
    folder.chmod(0o777)  # for the ordinary user
    if has_tls:
        cert, key = certificate(folder)
        if kind == "haproxy":
            cert.write_text(cert.read_text() + key.read_text())
        options = [*options, "--certfile", str(cert), *(["--keyfile", str(key)] if kind != "haproxy" else [])]
    site = folder / "site.conf"
    hosts = ["example.com", ".example.org", "127.0.0.1", "[::1]"]
    (folder / "a site").mkdir()
    settings = {"ALLOWED_HOSTS": hosts, "STATIC_ROOT": str(folder / "a site")}
    site.write_text(emit(kind, "--listen", f"127.0.0.1:{free_port()}", *options, **settings))
    check(kind, folder, site)


@pytest.mark.parametrize("options", [[], ["--threads", "9"], ["--listen", "/run/g.sock"], ["--listen", ":8000"]])
def test_gunicorns_own_checker_has_no_complaint(folder: Path, options: list[str]) -> None:
    path = folder / "gunicorn.conf.py"
    path.write_text(emit("gunicorn", *options))
    command = [sys.executable, "-m", "gunicorn", "--check-config", "-c", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("options", [[], ["--listen", "8000"], ["--listen", "127.0.0.1:8000", "--sockets", "20000"]])
def test_systemds_own_checker_has_no_complaint(folder: Path, options: list[str]) -> None:
    program = shutil.which("systemd-analyze") or pytest.skip("no systemd-analyze")
    emit("systemd", "--output", str(folder), *options)
    units = [str(path) for path in folder.iterdir()]
    done = subprocess.run([program, "verify", *units], capture_output=True, text=True, timeout=60)
    # systemd before 253, which the file itself speaks of
    said = [line for line in done.stderr.splitlines() if "service type, ignoring: notify-reload" not in line]
    assert said == []


# Addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8000", Address(port=8000)),
        (":8000", Address(port=8000)),
        ("*:8000", Address(port=8000)),
        ("0.0.0.0:8000", Address(port=8000)),
        ("127.0.0.1:8000", Address(host="127.0.0.1", port=8000)),
        ("[::1]:8000", Address(host="[::1]", port=8000)),
        ("http://web-1.example:80", Address(host="web-1.example", port=80)),
        ("/run/site.sock", Address(path="/run/site.sock")),
        ("unix:/run/site.sock", Address(path="/run/site.sock")),
        ("uwsgi://127.0.0.1:8000", Address("uwsgi", "127.0.0.1", 8000)),
        ("uwsgi:///run/site.sock", Address("uwsgi", path="/run/site.sock")),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert parse(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "host", "host:", "::1:80", "65536", "127.0.0.1:123456", "ftp://x:1", "run/x.sock", "/a;b", "/" + 107 * "x"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no address|is too long"):
        parse(text)
