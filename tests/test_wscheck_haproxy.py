"""wscheck's area haproxy: each mistake is found in its file, and most are shown in a real HAProxy."""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_wsredis.checks import haproxy, kernel, processes
from django_wsredis.checks.haproxy.reading import Line, files_given, read, split
from django_wsredis.checks.haproxy.routing import Handshake, holds, rewrite
from django_wsredis.checks.haproxy.wording import text_of

from . import layouts, looking
from .layouts import Layout, certificate, find_program, run_runwsserver
from .looking import Change, after, drop, emit, found, ids, look, problems, swap
from .servers import Process, RedisServer, free_port, wait_until

TWO = ["--ws-upstream", "127.0.0.1:8001"]
MAIN = """global
    maxconn 4000

defaults
    mode http
    timeout connect 5s
    timeout client 50s
    timeout server 50s

"""


def write(folder: Path, options: list[str], change: Change = str, main: str = MAIN) -> Path:
    """Return the printed configuration, at the end of a main file, with a change in it."""
    (path,) = emit("haproxy", folder, "--listen", "127.0.0.1:8099", *options)
    path.write_text(main + change(path.read_text()))
    return path


@pytest.mark.parametrize(
    "options",
    [[], TWO, ["--upstream", "8000", "--upstream", "8001"], ["--upstream", "/run/x.sock", "--timeout", "90"]],
    ids=" ".join,
)
@pytest.mark.parametrize("settings", [{}, {"ALLOWED_HOSTS": ["*"]}, {"WEBSOCKET_URL": "/live/"}])
@pytest.mark.parametrize("main", ["", MAIN], ids=["alone", "in a main file"])
def test_what_is_printed_has_no_problem(folder: Path, options: list[str], settings: dict[str, Any], main: str) -> None:
    with override_settings(**settings):
        rows = look(haproxy, write(folder, options, main=main), settings)
    looking.assert_all_is_well(rows)


def test_what_is_printed_for_tls_has_no_problem(folder: Path) -> None:
    cert, key = certificate(folder)
    cert.write_text(cert.read_text() + key.read_text())
    assert ids(look(haproxy, write(folder, ["--certfile", str(cert)]))) == []


CHANGES: list[tuple[str, list[str], Change]] = [
    ("E501", [], swap("option redispatch", "option redespatch")),
    ("E501", [], swap("default_backend tests", "default_backend nowhere")),
    ("E502", [], drop("default_backend")),
    ("E502", [], after("option forwardfor", "    http-request deny if { path_beg /ws/ }")),
    ("E502", [], after("balance roundrobin", "    http-request deny if { path_beg /ws/ }")),
    ("E502", [], after("option forwardfor", "    http-request return status 200 if { path /ws/x }")),
    ("E502", [], after("option forwardfor", "    http-request auth")),
    ("E502", [], after("option forwardfor", "    redirect location /x if { path_beg /ws/ }")),
    ("E503", [], swap("timeout tunnel [0-9]+s", "timeout tunnel 20s")),
    ("E503", TWO, swap("timeout tunnel [0-9]+s", "timeout tunnel 5000")),
    ("E503", [], lambda text: drop("timeout tunnel")(swap("timeout client [0-9]+s", "timeout client 10s")(text))),
    ("E503", [], lambda text: drop("timeout tunnel")(swap("timeout server [0-9]+s", "timeout server 10s")(text))),
    ("E504", [], after("balance roundrobin", r"    http-request replace-path /ws(/.*) \\1")),
    ("E504", [], after("option forwardfor", "    http-request set-path %[path,regsub(^/ws/,/)]")),
    ("E505", [], after("balance roundrobin", "    http-request set-header Host internal")),
    ("E506", [], after("balance roundrobin", "    http-request del-header Upgrade")),
    ("E506", [], after("balance roundrobin", "    http-request set-header Connection close")),
    ("I508", [], swap("check inter 1s", "check maxconn 50")),
    ("I508", [], after("option forwardfor", "    maxconn 500")),
    ("I509", [], drop("option http-server-close")),
]


@pytest.mark.parametrize(("id", "options", "change"), CHANGES)
def test_one_mistake_is_one_problem(folder: Path, id: str, options: list[str], change: Change) -> None:
    (folder / "right").mkdir()
    assert ids(look(haproxy, write(folder / "right", options))) == []
    path = write(folder, options, change)
    seen = problems(look(haproxy, path))
    if "nowhere" in path.read_text():  # then it leads nowhere, too
        assert seen.pop().id == "wsredis.E502"
    looking.assert_only(seen, id, path)


def test_w507_fewer_connections_than_max_sockets(folder: Path) -> None:
    path = write(folder, [])
    settings = {"WSREDIS": {**looking.SETTINGS["WSREDIS"], "MAX_SOCKETS": 4000}}
    assert ids(look(haproxy, path, settings)) == []
    settings["WSREDIS"]["MAX_SOCKETS"] = 5000
    (problem,) = problems(look(haproxy, path, settings))
    assert problem.id == "wsredis.W507"
    assert problem.place == f"{path}:2"


@pytest.mark.parametrize(
    ("expected", "change"),
    [
        ([], swap("default_backend tests", "acl is_ws hdr(Upgrade) -i WebSocket\n use_backend tests if is_ws")),
        ([], swap("default_backend tests", "use_backend tests if { path -m beg /ws } || { path /x }")),
        ([], swap("default_backend tests", "use_backend tests unless { path_beg /api }")),
        ([], swap("default_backend tests", "use_backend tests if { hdr(host) -i nobody.example localhost }")),
        ([], swap("default_backend tests", "use_backend tests if METH_GET !{ path_end .php }")),
        (["E502"], swap("default_backend tests", "use_backend tests if { hdr(host) nobody.example }")),
        (["E502"], swap("default_backend tests", "use_backend tests if { path_beg /WS/ }")),
        ([], after("option forwardfor", "    http-request redirect scheme https if { path_beg /api }")),
        ([], after("option forwardfor", "    http-request allow if { path_beg /ws/ }\n    http-request deny")),
        (["E502"], after("option forwardfor", "    http-request allow if { path_beg /x/ }\n    http-request deny")),
        ([], after("balance roundrobin", r"    http-request replace-path /ws(/.*) \\1 if { path_beg /api }")),
        ([], after("balance roundrobin", "    http-request set-header Host localhost")),
        ([], after("balance roundrobin", "    http-request set-header Host %[req.hdr(host)]")),
        ([], lambda text: drop("timeout tunnel")(text)),
        ([], swap("timeout client [0-9]+s", "timeout client 10s")),  # tunnel takes its place
        ([], swap("timeout tunnel [0-9]+s", "timeout tunnel 1h  # long")),
    ],
)
def test_other_ways_are_understood(folder: Path, expected: list[str], change: Change) -> None:
    assert ids(look(haproxy, write(folder, [], change))) == expected


def test_what_is_not_understood_is_said(folder: Path) -> None:
    path = write(folder, [], after("option forwardfor", "    use_backend tests if { src 10.0.0.0/8 }"))
    rows = look(haproxy, path)
    assert ids(rows) == []
    assert any(
        "{ src 10.0.0.0/8 }: on what it depends is not known here" in row.found for row in rows if row.is_skipped
    )
    (folder / "b").mkdir()
    path = write(folder / "b", [], after("balance roundrobin", "    http-request set-path /%[rand(3)]%[path]"))
    rows = look(haproxy, path)
    assert ids(rows) == []
    assert found(rows, "prefix").is_skipped


@pytest.mark.parametrize("where", ["option forwardfor", "balance roundrobin"], ids=["frontend", "backend"])
@pytest.mark.parametrize(
    "line",
    [
        "http-request deny if { src -f /etc/haproxy/bad }",
        "http-request return status 503 if { nbsrv(tests) lt 1 }",
        "http-request redirect location /x if { req.cook(a) -m found }",
        "redirect prefix https://other unless { src 10.0.0.0/8 }",
        "http-request auth unless { http_auth(users) }",
    ],
)
def test_an_answer_on_a_condition_that_is_not_known_is_said(folder: Path, where: str, line: str) -> None:
    path = write(folder, [], after(where, f"    {line}"))
    rows = [row for row in look(haproxy, path) if not row.problems or row.problems[0].id != "wsredis.E501"]
    assert ids(rows) == []
    (row,) = (row for row in rows if "on what it depends" in row.found)
    assert row.is_skipped
    number = next(number for number, each in enumerate(path.read_text().splitlines(), 1) if line in each)
    assert row.found.startswith(f"{path}:{number}: {' '.join(line.split()[:1])}")


def test_an_answer_that_is_not_known_is_no_way_to_a_backend(folder: Path) -> None:
    """It does not excuse that there is none."""
    refuse = after("option forwardfor", "    http-request deny if { src 10.0.0.0/8 }")
    rows = look(haproxy, write(folder, [], lambda text: drop("default_backend")(refuse(text))))
    assert ids(rows) == ["E502"]
    assert len([row for row in rows if row.is_skipped]) == 1


@pytest.mark.parametrize(
    ("condition", "is_known", "is_ours"),
    [
        ("hdr(host) -i example.com", True, True),
        ("hdr_end(host) -i .example.com", True, True),
        ("hdr_end(host) .example.com", True, True),
        ("hdr_end(host) example.com", True, True),
        ("hdr_dom(host) -i example.com", True, True),
        ("hdr(host) -m sub example", True, True),
        ("hdr(host) -i example.org", True, False),
        ("hdr_end(host) -i .example.org", True, False),
        ("hdr(host) -i www.example.com", False, None),
        ("hdr(host) -i WWW.Example.com", False, None),
        ("hdr_end(host) -i .www.example.com", False, None),
        ("hdr_beg(host) -i www.", False, None),
        ("hdr_reg(host) -i ^[a-z]+\\.example\\.com$", False, None),
    ],
)
def test_a_domain_stands_for_the_hosts_below_it(
    folder: Path, condition: str, is_known: bool, is_ours: bool | None
) -> None:
    settings = {"ALLOWED_HOSTS": [".example.com"]}
    written = condition.replace("\\", "\\\\\\\\")
    path = write(folder, [], swap("default_backend tests", f"use_backend tests if {{ {written} }}"))
    rows = look(haproxy, path, settings)
    assert ids(rows) == (["E502"] if is_ours is False else [])
    assert any(row.is_skipped for row in rows) != is_known


def test_no_value_of_a_header_is_shown(folder: Path) -> None:
    lines = [
        "    http-request deny if { hdr(x-secret) -m str hunter2 }",
        "    http-request deny if !{ req.hdr(Authorization) -i Bearer hunter2 } { path_beg /ws/ }",
        "    use_backend tests if { req.cook(session) hunter2 hunter3 } or { urlp(token),lower -m beg hunter2 }",
        "    use_backend tests if { str(hunter2) -m str hunter2 }",
        "    http-request redirect location https://bob:hunter2@elsewhere.example/ if { path_beg /ws/ }",
    ]
    for number, line in enumerate(lines):
        (folder / str(number)).mkdir()
        rows = look(haproxy, write(folder / str(number), [], after("option forwardfor", line)))
        assert "hunter" not in repr(rows)
        assert any("…" in row.found for row in rows)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("use_backend a if { path_beg -i /ws/ } { hdr(host) -i a.example }", ""),
        ("use_backend a if is_ws !{ src 10.0.0.0/8 } or b", ""),
        ("http-request replace-path /ws(/.*) /x if { method GET }", ""),
        ("http-request set-header Host internal", ""),
        ("http-request deny", ""),
        (
            "use_backend a if { hdr(x-secret),lower -i -m str s3 s4 } b",
            "use_backend a if { hdr(x-secret)… -i -m str … } b",
        ),
        ("use_backend a if !{ req.hdr(authorization) s3 }", "use_backend a if !{ req.hdr(authorization) … }"),
        ("use_backend a if { http_auth(s3) }", "use_backend a if { http_auth… }"),
        ("http-request set-header X-Token s3 if w", "http-request set-header X-Token … if w"),
        ("http-request set-query token=s3", "http-request set-query …"),
        ("redirect location https://u:s3@h/", "redirect location …"),
    ],
)
def test_a_line_is_shown_without_what_may_be_a_secret(line: str, text: str) -> None:
    assert text_of(Line(split(line), "x:1")) == (text or line)


def test_a_listen_section_and_tcp(folder: Path) -> None:
    path = folder / "x.cfg"
    listen = "listen all\n    bind 127.0.0.1:8099\n    option http-server-close\n    server a 127.0.0.1:8000\n"
    path.write_text(MAIN + listen)
    rows = look(haproxy, path)
    assert ids(rows) == []
    assert found(rows, "timeout").found == "timeout client 50 s; a ping each 20 s"
    path.write_text(MAIN.replace("mode http", "mode tcp") + listen.replace("    option http-server-close\n", ""))
    assert ids(look(haproxy, path)) == []
    path.write_text(MAIN.replace("50s", "10s").replace("mode http", "mode tcp") + listen)
    assert ids(look(haproxy, path)) == ["E503"]


def test_defaults_by_name(folder: Path) -> None:
    path = folder / "x.cfg"
    path.write_text("defaults a\n timeout tunnel 5s\ndefaults b\n timeout tunnel 7s\nbackend x from a\nbackend y\n")
    sections = {section.name: section for section in read(path)}
    assert sections["x"].seconds("tunnel") == 5
    assert sections["y"].seconds("tunnel") == 7
    assert sections["y"].seconds("server") is None


def test_words_are_read() -> None:
    assert split(r"""acl a "b c" 'd # e' f\ g # comment""") == ["acl", "a", "b c", "d # e", "f g"]


def in_turn(*changes: Change) -> Change:
    return lambda text: functools.reduce(lambda changed, change: change(changed), changes, text)


def test_a_redirect_to_https_is_for_those_without_it(folder: Path) -> None:
    """The same frontend listens for both; a redirect in the backend is asked of the same connection."""
    cert, key = certificate(folder)
    cert.write_text(cert.read_text() + key.read_text())
    for number, where in enumerate(("option forwardfor", "balance roundrobin")):
        both = after("bind", "    bind 127.0.0.1:8098")
        redirect = after(where, "    http-request redirect scheme https unless { ssl_fc }")
        (folder / str(number)).mkdir()
        path = write(folder / str(number), ["--certfile", str(cert)], in_turn(both, redirect))
        rows = look(haproxy, path)
        looking.assert_all_is_well(rows)
        plain = folder / f"plain{number}"
        plain.mkdir()
        assert ids(look(haproxy, write(plain, [], redirect))) == ["E502"]


# Several files


def test_a_folder_is_read_as_haproxy_reads_it(folder: Path) -> None:
    """HAProxy itself is asked by `haproxy -c`: there is nothing to complain about unless one is missing."""
    (site,) = emit("haproxy", folder, "--listen", "127.0.0.1:8099")
    whole = folder / "whole"
    whole.mkdir()
    text = site.read_text()
    head, _, tail = text.partition("\nbackend ")
    (whole / "00-main.cfg").write_text(MAIN.replace("client 50s", "client 10s"))
    (whole / "10-front.cfg").write_text(head + "\n")
    (whole / "20-back.cfg").write_text("\nbackend " + drop("timeout tunnel")(drop("timeout server")(tail)))
    (whole / "15-other.txt").write_text("nonsense\n")
    (whole / ".hidden.cfg").write_text("nonsense\n")
    rows = look(haproxy, whole)
    assert ids(rows) == []
    names = [f"{whole}/{name}" for name in ("00-main.cfg", "10-front.cfg", "20-back.cfg")]
    assert [row.found for row in rows if row.checked == "configuration"] == [", ".join(names)]
    (whole / "00-main.cfg").write_text(MAIN.replace("server 50s", "server 10s"))  # of the file before
    (problem,) = problems(look(haproxy, whole))
    assert (problem.id, problem.place) == ("wsredis.E503", f"{whole}/00-main.cfg:8")
    (whole / "00-main.cfg").rename(whole / "30-main.cfg")  # what comes after is not for those before
    assert ids(look(haproxy, whole)) == []
    (whole / "20-back.cfg").unlink()
    assert "E501" in ids(look(haproxy, whole))
    empty = folder / "empty"
    empty.mkdir()
    row = found(look(haproxy, empty), "configuration")
    assert (row.found, ids([row])) == (f"{empty} has no file *.cfg", ["E501"])


def test_the_command_takes_a_folder_for_haproxy_alone(folder: Path) -> None:
    write(folder, [])
    output = io.StringIO()
    call_command("wscheck", "--only", "haproxy", "--haproxy-conf", str(folder), "--json", stdout=output)
    assert json.loads(output.getvalue())["is_fine"]
    with pytest.raises(CommandError, match="is no file"):
        call_command("wscheck", "--only", "nginx", "--nginx-conf", str(folder))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-f a.cfg -f b.d", ["/srv/a.cfg", "/srv/b.d"]),
        ("-Ws -f /etc/x.cfg -p /run/x.pid -- b.cfg c.cfg", ["/etc/x.cfg", "/srv/b.cfg", "/srv/c.cfg"]),
        ("-f a.cfg -C conf -D -sf 12 13", ["/srv/conf/a.cfg"]),
        ("-D", []),
        ("-f", []),
    ],
)
def test_the_files_of_a_command_line(line: str, expected: list[str]) -> None:
    assert list(map(str, files_given(line.split(), Path("/srv")))) == expected


def test_what_runs_is_read_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real HAProxy, with the limits in one file and the site in another."""
    (site,) = emit("haproxy", folder, "--listen", f"127.0.0.1:{free_port()}")
    site.write_text(drop("timeout (?:tunnel|client|server)")(site.read_text()))
    (folder / "main.cfg").write_text(MAIN)
    monkeypatch.setattr(haproxy, "MAIN_FILE", folder / "nowhere")
    process = Process([find_program("haproxy"), "-db", "-f", "main.cfg", "-f", site.name], cwd=folder)
    real = processes.running
    monkeypatch.setattr(processes, "running", lambda name: (one for one in real(name) if one.pid == process.pid))
    try:
        wait_until(lambda: [one for one in real("haproxy") if one.pid == process.pid], what="HAProxy")
        rows = look(haproxy, None)
        assert ids(rows) == []
        assert found(rows, "configuration").found == f"{folder}/main.cfg, {site}"
        (folder / "main.cfg").write_text(MAIN.replace("50s", "15s"))
        (problem,) = problems(look(haproxy, None))
        assert (problem.id, problem.place) == ("wsredis.E503", f"{folder}/main.cfg:7")
        if os.geteuid() == 0:
            shutil.chown(site, "nobody")
            rows = look(haproxy, None)
            assert ids(rows) == []
            assert "belongs to the user nobody" in found(rows, f"HAProxy {process.pid}").found
    finally:
        process.stop()


def test_w555_ports_are_needed_by_tcp_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"WSREDIS": {**looking.SETTINGS["WSREDIS"], "MAX_SOCKETS": 3000}}
    two = write(folder, ["--upstream", "8000", "--upstream", "8001"])
    assert ids(look(haproxy, two, settings)) == []
    (folder / "unix").mkdir()
    unix = write(folder / "unix", ["--upstream", "/run/x.sock"])
    monkeypatch.setattr(kernel, "port_range", lambda: range(50000, 51000))
    (problem,) = problems(look(haproxy, two, settings))
    assert problem.id == "wsredis.W555"
    assert "1,000 connections at most to each of 127.0.0.1:8000, 127.0.0.1:8001, and MAX_SOCKETS" in problem.text
    rows = look(haproxy, unix, settings)
    assert ids(rows) == []
    assert found(rows, "ports").found == "none is needed: no TCP to the site"


def test_conditions_and_paths(folder: Path) -> None:
    def section(*lines: str) -> Any:
        path = folder / "x.cfg"
        path.write_text("backend b\n mode http\n" + "\n".join(lines))
        return read(path)[0]

    request = Handshake("/ws/x", ["example.com"])
    known = section(
        "acl w path_beg /ws/", "acl w path_beg /live/", "acl h hdr_dom(host) example.com", "acl u src 1.2.3.4"
    )
    for condition, truth in [
        ("if w", True),
        ("if !w", False),
        ("unless w", False),
        ("if w h", True),
        ("if u", None),
        ("if u !w", False),
        ("if u or w", True),
        ("if { path_reg ^/[a-z]+/ }", True),
        ("if { path_dir ws }", True),
        ("if { method POST }", False),
        ("if { ssl_fc }", False),
        ("if { hdr(cookie) -m found }", None),
    ]:
        (line,) = section(f"use_backend x {condition}").lines[1:]
        assert holds(known, line, request) is truth, condition
    assert rewrite(section(r"http-request replace-path ^/ws/(.*) /live/\\1"), request).path == "/live/x"
    assert rewrite(section("http-request set-path /a%[path]"), request).path == "/a/ws/x"


def test_the_usual_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = folder / "haproxy.cfg"
    monkeypatch.setattr(haproxy, "MAIN_FILE", main)
    monkeypatch.setattr(haproxy, "open_to_us", lambda name, **options: ([], []))  # other tests may run some
    assert found(look(haproxy, None), "HAProxy's configuration").is_skipped
    main.write_text(MAIN)
    assert found(look(haproxy, None), "configuration").is_skipped
    write(folder, [], swap("timeout tunnel [0-9]+s", "timeout tunnel 20s")).rename(main)
    assert ids(look(haproxy, None)) == ["E503"]
    monkeypatch.setattr(haproxy, "find_program", lambda *names: None)
    assert found(look(haproxy, None), "haproxy -c").is_skipped


# What really happens


def start(change: Change, ping: float = 8) -> Callable[[Layout], None]:
    """Return what starts a site behind a HAProxy with a change, and has the change found."""

    def begin(layout: Layout) -> None:
        layout.settings["WSREDIS"]["PING_INTERVAL"] = ping
        address = f"127.0.0.1:{free_port()}"
        run_runwsserver(layout, address, "--workers", "1")
        (site,) = layout.emit("haproxy", "--listen", f"127.0.0.1:{layout.port}", "--upstream", address)
        site.write_text(change(site.read_text()))
        layout.found = ids(look(haproxy, site, layout.settings))
        layout.run_proxy(*layouts.haproxy(layout.folder, site), "-db")

    return begin


@pytest.mark.parametrize(
    ("id", "change", "status"),
    [
        ("", str, 101),
        ("E502", swap("default_backend tests", "use_backend tests unless { path_beg /ws/ }"), 503),
        ("E502", after("option forwardfor", "    http-request deny if { path_beg /ws/ }"), 403),
        ("E502", after("balance roundrobin", "    http-request deny if { path_beg /ws/ }"), 403),
        ("E502", after("option forwardfor", "    http-request auth if { path_beg /ws/ }"), 401),
        (
            "",
            after(
                "option forwardfor",
                "    http-request allow if { path_beg /ws/ }",
                "    http-request deny if { path_beg /w }",
            ),
            101,
        ),
        ("E504", after("balance roundrobin", r"    http-request replace-path /ws(/.*) \\1"), 404),
        ("E505", after("balance roundrobin", "    http-request set-header Host 127.0.0.1:1"), 403),
        ("E506", after("balance roundrobin", "    http-request del-header Upgrade"), 426),
    ],
)
def test_a_real_haproxy_answers_so(
    shared_redis: RedisServer, database: object, folder: Path, id: str, change: Change, status: int
) -> None:
    with layouts.running(start(change), folder, shared_redis) as layout:
        assert layout.found == ([id] if id else [])
        assert looking.status_of(layout) == status


@pytest.mark.parametrize(
    ("id", "change", "code"),
    [
        ("E503", swap("timeout tunnel [0-9]+s", "timeout tunnel 2s"), 1006),
        ("E503", lambda text: drop("timeout tunnel")(swap("timeout client [0-9]+s", "timeout client 2s")(text)), 1006),
        ("", swap("timeout client [0-9]+s", "timeout client 2s"), None),
    ],
)
def test_a_real_haproxy_waits_so_long(
    shared_redis: RedisServer, database: object, folder: Path, id: str, change: Change, code: int | None
) -> None:
    with layouts.running(start(change), folder, shared_redis) as layout:
        assert layout.found == ([id] if id else [])
        with layout.connect(looking.FACILITY) as socket:
            assert looking.end_of(socket, 4) == code


def test_a_real_haproxy_counts_websockets(shared_redis: RedisServer, database: object, folder: Path) -> None:
    with layouts.running(start(swap("check inter 1s", "maxconn 3")), folder, shared_redis) as layout:
        assert layout.found == ["I508"]
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(layout.connect(looking.FACILITY))
            with pytest.raises(TimeoutError), layout.connect(looking.FACILITY, open_timeout=2):
                pass


def test_a_real_haproxy_refuses_the_same(folder: Path) -> None:
    path = write(folder, [], swap("option redispatch", "option redespatch"))
    assert ids(look(haproxy, path)) == ["E501"]
    done = subprocess.run([find_program("haproxy"), "-f", path, "-db"], capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert "redespatch" in done.stderr
