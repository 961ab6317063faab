"""wscheck's area uwsgi: each mistake is found in its file, and most are shown in a real uWSGI."""

from __future__ import annotations

import json
import re
import signal
import stat
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from django.test import override_settings

from django_wsredis.checks import kernel, uwsgi
from django_wsredis.checks.programs import Patience
from django_wsredis.checks.situation import Situation
from django_wsredis.checks.uwsgi import ending, logic, names, serving
from django_wsredis.checks.uwsgi.program import Program, inspect
from django_wsredis.checks.uwsgi.reading import read_command, read_file

from . import layouts
from .layouts import Layout, certificate, find_uwsgi, is_pyuwsgi, uwsgi_help, uwsgi_programs
from .looking import (
    FACILITY,
    SETTINGS,
    Change,
    add,
    assert_all_is_well,
    assert_only,
    drop,
    emit,
    end_of,
    found,
    ids,
    look,
    many_views,
    problems,
    status_of,
    swap,
)
from .servers import Process, RedisServer, free_port, missing
from .tls import trust

HTTP = ["--listen", "127.0.0.1:8000"]
ROUTER = [*HTTP, "--router"]
THREADS = [*HTTP, "--threads", "4"]
WITHOUT_CHAIN = ["without a chain reload"]  # which starts a master by itself


@pytest.fixture(autouse=True)
def _program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled uWSGI, wherever it is."""
    program = find_uwsgi("--route", "--https")
    monkeypatch.setattr(uwsgi, "find_program", lambda *names: program)


def write(folder: Path, options: list[str], change: Change = str) -> Path:
    """Return the printed configuration with a change in it."""
    if options == ["emperor"]:
        path, *_ = emit("uwsgi-emperor", folder)
    elif options == WITHOUT_CHAIN:
        (path,) = emit("uwsgi", folder)
        path.write_text(drop("touch-chain-reload")(path.read_text()))
    else:
        (path,) = emit("uwsgi", folder, *options)
    path.write_text(change(path.read_text()))
    return path


# What is right


@pytest.mark.parametrize(
    "options",
    [
        [],
        HTTP,
        ROUTER,
        THREADS,
        ["--listen", ":80", "--router", "--workers", "1", "--timeout", "90"],
        ["--listen", "443", "--certfile", "/c.pem", "--keyfile", "/k.pem"],
        ["--listen", "uwsgi://8000", "--module", "tests.project.wsgi:application"],
        ["--listen", "/run/x.sock", "--threads", "9"],
        ["emperor"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("settings", [{}, {"STATIC_ROOT": "/srv/static", "WSREDIS": {"DRAIN_SECONDS": 40}}])
def test_what_is_printed_has_no_problem(folder: Path, options: list[str], settings: dict[str, Any]) -> None:
    with override_settings(**{**SETTINGS, **settings}):
        kind, given = ("uwsgi-emperor", []) if options == ["emperor"] else ("uwsgi", options)
        path, *_ = emit(kind, folder, *given, **settings)
    assert_all_is_well(look(uwsgi, path, settings))


# What is wrong: one change each

CHANGES: list[tuple[str, list[str], Change]] = [
    ("E307", [], swap(r"\[uwsgi\]", "[wsgi]")),
    ("W308", [], lambda text: add("enable-thread = true")(drop("strict")(text))),
    ("E333", [], add("worker-reload-merci = 60")),
    ("E333", [], add("log-to = /dev/null")),
    ("E333", [], add("set = folder=/srv")),
    ("W309", [], swap("module = .*", "module = tests.test_checks:djangos_own")),
    ("W310", [], drop("need-app")),
    ("E311", THREADS, drop("enable-threads", "threads")),
    ("E312", HTTP, swap("http-socket = (.*)", r"https-socket = \1,/cert.pem,/key.pem")),
    ("E312", HTTP, swap("http-socket", "fastcgi-socket")),
    ("E313", ROUTER, drop("http-websockets")),
    ("E314", ROUTER, swap("http-timeout = .*", "http-timeout = 20")),
    ("W315", [], add("harakiri = 30")),
    ("W316", [], add("max-requests = 1000")),
    ("W316", [], add("reload-on-rss = 200")),
    ("W316", [], add("max-worker-lifetime = 3600")),
    ("W317", [], add("evil-reload-on-rss = 200")),
    ("W318", [], add("idle = 60")),
    ("W318", [], add("cheaper = 1")),
    ("W319", [], drop("die-on-term")),
    ("W319", ROUTER, drop("hook-master-start")),
    ("W320", ROUTER, swap("hook-master-start = .*", "die-on-term = true")),
    ("W321", [], drop("lazy-apps")),
    ("W322", [], swap("touch-chain-reload", "touch-reload")),
    ("E323", [], swap("worker-reload-mercy = .*", "worker-reload-mercy = 5")),
    ("E323", ["emperor"], swap("^reload-mercy = .*", "reload-mercy = 5")),
    ("E324", [], swap("listen = .*", "listen = 1000000")),
    ("E323", ["emperor"], swap("^emperor-curse-tolerance = .*", "emperor-curse-tolerance = 5")),
    ("W325", [], swap("buffer-size = .*", "buffer-size = 1024")),
    ("W325", ["emperor"], swap("buffer-size = .*", "buffer-size = 1024")),
    ("W326", WITHOUT_CHAIN, drop("master")),
    ("E327", ["emperor"], swap(r"uwsgi:(\S+websockets.sock),0,0", r"http:\1")),
    ("E327", ["emperor"], swap("route = \\^/(ws/)?", "route = ^/pages/")),
    ("E327", ["emperor"], swap(r"route = \^/ws/ uwsgi:\S+", "route = ^/ws/ static:/srv/x")),
    ("W328", ["emperor"], drop("offload-threads")),
]


@pytest.mark.parametrize(
    ("id", "options", "change"), CHANGES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_one_mistake_is_one_problem(folder: Path, id: str, options: list[str], change: Change) -> None:
    (folder / "right").mkdir()
    assert ids(look(uwsgi, write(folder / "right", options))) == []
    path = write(folder, options, change)
    assert_only(problems(look(uwsgi, path)), id, path)


@pytest.mark.parametrize("name", [*ending.LIMITS, *ending.EVIL_LIMITS])
def test_a_limit_of_0_is_none(folder: Path, name: str) -> None:
    rows = look(uwsgi, write(folder, [], add(f"{name} = 100", f"{name} = 0")))  # the last one counts
    assert ids(rows) == []
    assert found(rows, "limits of a worker").found == "none"


@pytest.mark.parametrize(
    ("options", "name", "default"),
    [
        ([], "worker-reload-mercy", 60),
        (["emperor"], "reload-mercy", 30),
        (["emperor"], "emperor-curse-tolerance", 30),
    ],
)
def test_the_mercy_that_is_not_written_is_judged(folder: Path, options: list[str], name: str, default: int) -> None:
    path = write(folder, options, drop(name))
    assert ids(look(uwsgi, path)) == []
    (problem,) = [
        problem for problem in problems(look(uwsgi, path, {"WSREDIS": {"DRAIN_SECONDS": default}})) if not problem.place
    ]
    assert problem.id == "wsredis.E323"
    assert problem.text.startswith(f"{name} is not set, and {default} by default, which is not above DRAIN_SECONDS")
    assert problem.hint == f"{name} = {default + 10}"


def test_a_mistake_in_a_vassal_is_found_and_named(folder: Path) -> None:
    path = write(folder, ["emperor"])
    vassal = folder / "vassals/websockets.ini"
    vassal.write_text(drop("gevent", "enable-threads")(vassal.read_text()))
    rows = look(uwsgi, path)
    assert ids(rows) == ["E311"]
    assert [row.checked for row in rows if row.problems] == ["vassals/websockets.ini: loop"]


@pytest.mark.parametrize(
    ("options", "change", "whom"),
    [
        (HTTP, str, None),
        (ROUTER, str, "127.0.0.1"),
        (ROUTER, add("socket = 127.0.0.1:3031"), "127.0.0.1:3031"),
        (ROUTER, add("socket = /run/x.sock"), ""),
        (["emperor"], str, ""),
        (["emperor"], swap(r"uwsgi:\S+websockets.sock", "uwsgi:127.0.0.1:3031"), "127.0.0.1:3031"),
    ],
)
def test_w555_ports_are_needed_by_tcp_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], change: Change, whom: str | None
) -> None:
    path = write(folder, options, change)
    settings = {"WSREDIS": {**SETTINGS["WSREDIS"], "MAX_SOCKETS": 1500}}
    assert ids(look(uwsgi, path, settings)) == []
    monkeypatch.setattr(kernel, "port_range", lambda: range(50000, 51000))
    rows = look(uwsgi, path, settings)
    assert ids(rows) == ["W555"] * bool(whom)
    seen = [row.found for row in rows if row.checked.endswith("ports")]
    if whom is None:
        assert seen == []
    else:
        assert seen[0].startswith(f"1,000 to each of {whom};" if whom else "none is needed")


def test_a_real_router_reaches_its_worker_by_tcp(folder: Path) -> None:
    program, port = find_uwsgi(), free_port()
    process = Process([str(program), "--http", f"127.0.0.1:{port}", "--need-app", "--die-on-term"], cwd=folder)
    try:
        process.wait_for(rf"socket 0 bound to TCP address {serving.OWN_ADDRESS}:\d+ \(port auto-assigned\)")
    finally:
        process.stop()


def test_the_line_is_named(folder: Path) -> None:
    path = write(folder, ROUTER, swap("http-timeout = .*", "http-timeout = 7"))
    (problem,) = problems(look(uwsgi, path))
    number = path.read_text().splitlines().index("http-timeout = 7") + 1
    assert problem.place == f"{path}:{number}"
    assert "http-timeout is 7 s, not above PING_INTERVAL, 20 s" in problem.text


# The program


def fake(folder: Path, edit: str) -> Path:
    """Return a program that says what the real one says, but for an edit by sed."""
    path = folder / "uwsgi"
    path.write_text(f"#!/bin/sh\n{find_uwsgi('--route', '--https')} \"$@\" | sed -E '{edit}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(
    ("id", "options", "edit"),
    [
        ("W301", [], "s/^2\\.0\\.[0-9]+$/2.0.18/"),
        ("W301", [], "s/^2\\.0\\.[0-9]+$/2.1-dev-1234/"),
        ("E302", [], "s/^3\\.[0-9]+\\.[0-9]+$/3.8.10/"),
        ("E303", [], "/--gevent /d"),
        ("E304", ["emperor"], "/--route/d"),
        ("E305", ["--listen", "443", "--certfile", "/c.pem"], "/--https /d"),
    ],
)
def test_what_the_program_lacks_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch, id: str, options: list[str], edit: str
) -> None:
    path = write(folder, options)
    program = fake(folder, edit)
    monkeypatch.setattr(uwsgi, "find_program", lambda *names: program)
    assert_only(problems(look(uwsgi, path)), id, path)
    program = fake(folder, "")
    assert ids(look(uwsgi, path)) == []


def test_a_real_uwsgi_without_pcre(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made by `UWSGI_PROFILE_OVERRIDE=pcre=false pip install --no-binary :all: uwsgi`, in half a minute."""
    programs = [program for program in uwsgi_programs() if not re.search(r"(?m)^ +--route ", uwsgi_help(program))]
    if not programs:
        missing("no uwsgi on PATH that was built without PCRE")
    monkeypatch.setattr(uwsgi, "find_program", lambda *names: programs[0])
    path = write(folder, ["emperor"])
    assert ids(look(uwsgi, path)) == ["E304"]
    done = subprocess.run([programs[0], "--ini", path], capture_output=True, text=True, timeout=30)
    assert "unknown config directive: route" in done.stdout + done.stderr
    (folder / "other").mkdir()
    assert ids(look(uwsgi, write(folder / "other", []))) == []


def find_wheel() -> Path:
    program = next((program for program in uwsgi_programs() if is_pyuwsgi(program)), None)
    return program or missing("no uwsgi of the pyuwsgi wheel")


def test_a_program_that_is_not_used_has_no_problem(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake(folder, "s/^2\\.0\\.[0-9]+$/2.0.18/")
    monkeypatch.setattr(uwsgi, "find_program", lambda *names: program)
    monkeypatch.setattr(uwsgi.instances, "open_to_us", lambda name, **options: ({}, []))
    rows = look(uwsgi, None)
    assert problems(rows) == []
    assert found(rows, "uWSGI's configuration").is_skipped


def test_the_wheel_has_no_tls_and_is_no_emperor(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel is a real uWSGI without TLS."""
    program = find_wheel()
    monkeypatch.setattr(uwsgi, "find_program", lambda *names: program)
    (folder / "tls").mkdir()
    assert ids(look(uwsgi, write(folder / "tls", ["--listen", "443", "--certfile", "/c.pem"]))) == ["E305"]
    assert ids(look(uwsgi, write(folder, ["emperor"]))) == ["E306"]
    (folder / "plain").mkdir()
    rows = look(uwsgi, write(folder / "plain", []))
    assert ids(rows) == []
    assert "the wheel pyuwsgi" in found(rows, "uWSGI").found


def test_a_program_that_hangs_or_is_not_there_holds_nobody_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "uwsgi"
    program.write_text("#!/bin/sh\nsleep 60\n")
    program.chmod(0o755)
    path = write(folder, [])
    monkeypatch.setattr(uwsgi, "find_program", lambda *names: program)
    row = found(look(uwsgi, path), "uWSGI")
    assert row.is_skipped
    assert "does not answer" in row.found
    monkeypatch.setattr(uwsgi, "find_program", lambda *names: None)
    assert found(look(uwsgi, path), "uWSGI").is_skipped


# What is read


def values(path: Path) -> list[tuple[str, str]]:
    return [(option.name, option.value) for option in read_file(path).options]


def test_an_ini_file_is_read_as_uwsgi_reads_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uWSGI itself is asked, with --show-config."""
    monkeypatch.setenv("WSR_TEST", "surroundings")
    (folder / "other.ini").write_text(
        "[uwsgi]\nbase = second\nvacuum\nsafe-pidfile=%(base)/%n\n[x]\nno-orphans = true\n"
    )
    path = folder / "site.ini"
    path.write_text(
        "; of nobody\nlost = 1\n[uwsgi]\nbase = /srv/%n\n  ; comment\n# another\npidfile2=%(base)/x.pid\r\n"
        "ini = :more\nini = %dother.ini\nini = other.ini:x\nroute = ^/a break:\nroute = ^/b break: ; all of it\n"
        "master\nprocname = %c %e %s %p %% $(WSR_TEST)\nthreads = 2=3\n\n[more]\nthunder-lock = true\nwho = %(base)\n"
    )
    monkeypatch.chdir(folder)
    said = subprocess.run(
        [find_uwsgi("--route"), "--no-server", "--show-config", "--ini", path],
        capture_output=True,
        text=True,
        timeout=30,
    )
    shown = (said.stdout + said.stderr).partition(";uWSGI instance configuration\n[uwsgi]\n")[2]
    lines = [line.partition(" = ") for line in shown.partition(";end of configuration")[0].splitlines()]
    expected = [(name, value) for name, _, value in lines if name not in ("no-server", "show-config", "ini")]
    assert len(expected) == 13
    assert values(path) == expected


def shown_by_uwsgi(*arguments: str | Path) -> list[tuple[str, str]]:
    """Return the options that uWSGI itself has found, but for those that ask it, and what begins and ends blocks."""
    command = [find_uwsgi("--route"), "--no-server", "--show-config", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    shown = (done.stdout + done.stderr).partition(";uWSGI instance configuration\n[uwsgi]\n")[2]
    lines = [line.partition(" = ") for line in shown.partition(";end of configuration")[0].splitlines()]
    return [
        (name, value)
        for name, _, value in lines
        if name not in ("no-server", "show-config", "ini", "xml", *logic.ENDS) and not logic.begins(name)
    ]


def test_an_xml_file_is_read_as_uwsgi_reads_it(folder: Path) -> None:
    path = folder / "site.xml"
    path.write_text(
        "<!-- <master/> -->\n<sites>\n<uwsgi id='one'>\n<vacuum/>\n</uwsgi>\n<uwsgi id='two'>\n<master/>\n"
        "<threads>4</threads>\n<route>^/a break:</route>\n<route>^/b&amp;c break:</route>\n"
        "<pidfile2>%d%n.pid</pidfile2>\n"
        "</uwsgi>\n</sites>\n"
    )
    for section in ("", ":one", ":two"):
        expected = shown_by_uwsgi("--xml", f"{path}{section}")
        assert expected
        conf = read_command(["--xml", f"{path}{section}"], folder)
        assert [(option.name, option.value) for option in conf.options] == expected
    assert [option.place for option in conf.options] == [f"{path}:{line}" for line in (7, 8, 9, 10, 11)]
    path.write_text("<uwsgi>\n<need-app/>\n<listen>9</listen>\n</uwsgi>\n")
    assert values(path) == shown_by_uwsgi("--xml", path) == [("need-app", "1"), ("listen", "9")]
    path.write_text("<uwsgi>\n<need-app>\n")
    assert "no element found" in dict(read_file(path).unread)[str(path)]
    assert ids(look(uwsgi, path)) == ["E307"]


def test_a_json_file_is_read(folder: Path) -> None:
    """Of uWSGI's own JSON (core/json.c) few are built with it."""
    path = folder / "site.json"
    path.write_text(
        '{\n"other": {"gevent": 5},\n"uwsgi": {\n "master": true, "need-app": false,\n "threads": 4,\n'
        ' "module": "%n.wsgi",\n "route": ["^/a x:", "^/b y:"],\n "idle": null, "lost": {"a": 1}\n}}\n'
    )
    expected = [("master", "1"), ("need-app", "0"), ("threads", "4"), ("module", "site.wsgi")]
    expected += [("route", "^/a x:"), ("route", "^/b y:"), ("idle", "0")]
    assert values(path) == expected
    assert [option.place.rpartition(":")[2] for option in read_file(path).options] == list("4456778")
    assert read_command([f"{path}:other"], folder).get("gevent").value == "5"
    for text in ("{", "[" * 100_000, "[]", '{"uwsgi": 5}'):
        path.write_text(text)
        assert ids(look(uwsgi, path)) == ["E307"]


@pytest.mark.parametrize("kind", ["xml", "json"])
def test_a_mistake_is_found_in_every_kind_of_file(folder: Path, kind: str) -> None:
    ini = write(folder, HTTP)
    options = [(option.name, option.value) for option in read_file(ini).options]
    path = folder / f"site.{kind}"

    def written(changed: dict[str, str]) -> str:
        pairs = {**dict(options), **changed}
        if kind == "json":
            return json.dumps({"uwsgi": pairs}, indent=1)
        return "\n".join(
            ["<uwsgi>", *(f"<{name}>{escape(value)}</{name}>" for name, value in pairs.items()), "</uwsgi>"]
        )

    path.write_text(written({}))
    assert ids(look(uwsgi, path)) == []
    path.write_text(written({"worker-reload-mercy": "5"}))
    (problem,) = problems(look(uwsgi, path))
    assert problem.id == "wsredis.E323"
    number = next(number for number, line in enumerate(path.read_text().splitlines(), 1) if "worker-reload" in line)
    assert problem.place == f"{path}:{number}"


BLOCKS = [
    "if-env = WSR_TEST\nthreads = 2\nendif =\nmaster = true",
    "if-env = WSR_NONE\nthreads = 2\nendif =\nmaster = true",
    "if-env = WSR_TEST=there\nprocname = %(_)\nendif =",
    "if-env = WSR_TEST=elsewhere\nprocname = %(_)\nendif =",
    "if-not-env = WSR_NONE\nthreads = 2\nendif =",
    "if-not-env = WSR_TEST\nthreads = 2\nend-if =",
    "if-not-env = WSR_TEST=elsewhere\nthreads = 2\nend =",
    "if-exists = %d\nthreads = 2\nendif =",
    "if-file = %p\nprocname = %(_)\nendif =",
    "if-file = %d\nthreads = 2\nendif =",
    "if-dir = %d\nthreads = 2\nendif =",
    "if-directory = %d\nthreads = 2\nendif =",
    "if-dir = %p\nthreads = 2\nendif =",
    "if-not-exists = /nowhere/x\nthreads = 2\nendif =",
    "if-not-file = %p\nthreads = 2\nendif =",
    "if-not-dir = %p\nprocname = %(_)\nendif =",
    "threads = 3\nif-opt = threads\nprocname = %(_)\nendif =",
    "threads = 3\nif-opt = threads=3\nmaster = true\nendif =",
    "threads = 3\nif-opt = threads=4\nmaster = true\nendif =",
    "threads = 3\nthreads = 5\nif-opt = threads=3\nmaster = true\nendif =\nif-opt = threads\nprocname = %(_)\nendif =",
    "if-not-opt = threads\nthreads = 4\nvacuum = true\nendif =\nmaster = true",  # ends in the midst: it has them then
    "for = a b  c\nroute = ^/%(_)/ break:\nendfor =\nmaster = true",
    "for-times = 3\nroute = ^/%(_)/ break:\nendfor =",
    "if-env = WSR_NONE\nif-env = WSR_TEST\nthreads = 2\nendif =\nmaster = true\nendif =",
]


@pytest.mark.parametrize("text", BLOCKS)
def test_conditions_and_loops_are_decided_as_uwsgi_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("WSR_TEST", "there")
    monkeypatch.delenv("WSR_NONE", raising=False)
    path = folder / "site.ini"
    path.write_text(f"[uwsgi]\nsafe-pidfile = x\n{text}\n")
    conf = read_file(path)
    assert values(path) == shown_by_uwsgi("--ini", path)
    assert conf.unread == []
    begins = [n for n, line in enumerate(path.read_text().splitlines(), 1) if re.match("if-|for", line)]
    assert conf.decided[0][0] == f"{path}:{begins[0]}"


def test_a_block_in_a_block_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uWSGI refuses it, if the outer one holds."""
    monkeypatch.setenv("WSR_TEST", "there")
    path = folder / "site.ini"
    path.write_text("[uwsgi]\nif-env = WSR_TEST\nfor = a b\nthreads = 2\nendfor =\n")
    assert shown_by_uwsgi("--ini", path) == []
    assert read_file(path).unread == [(f"{path}:3", "for in another block: uWSGI does not start")]


def test_a_condition_is_told_without_what_may_be_a_secret(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSR_TEST", "hunter2")
    path = write(folder, [], add("if-env = WSR_TEST=hunter2", "harakiri = 30", "endif ="))
    rows = look(uwsgi, path)
    assert ids(rows) == ["W315"]
    assert [row.found for row in rows if "if-env" in row.found] == ["if-env = WSR_TEST=…: true here"]
    assert "hunter2" not in repr(rows)
    monkeypatch.setenv("WSR_TEST", "another")
    assert ids(look(uwsgi, path)) == []


@pytest.mark.parametrize(
    "line", ["if-plugin = x", "if-reload =", "if-hostname = x", "if-dir = relative", "for-glob = *"]
)
def test_what_is_not_known_here_is_not_decided(folder: Path, line: str) -> None:
    path = write(folder, [], add(line, "harakiri = 30", "end ="))
    rows = look(uwsgi, path)
    assert ids(rows) == []
    assert [row.found for row in rows if row.is_skipped] == [f"{line}: what follows depends on it, up to its end"]


def test_a_yaml_file_is_read(folder: Path) -> None:
    path = folder / "site.yaml"
    path.write_text(
        "# what it is\nuwsgi:\n  http-socket: '127.0.0.1:80'  # for now\n  route:\n    - ^/a x:\n    - \"^/b y:\"\n"
        "  plugins: [python3, gevent]\n  master: true\nother:\n  gevent: 5\n"
    )
    assert values(path) == [
        ("http-socket", "127.0.0.1:80"),
        ("route", "^/a x:"),
        ("route", "^/b y:"),
        ("plugins", "python3"),
        ("plugins", "gevent"),
        ("master", "true"),
    ]


def test_a_command_line_is_read(folder: Path) -> None:
    (folder / "a.ini").write_text("[uwsgi]\nneed-app = true\n")
    line = "--http-socket :80 --master --gevent=100 -p4 -w mysite.wsgi --need-app a.ini --set x=1 --lazy-apps"
    found = read_command(line.split(), folder)
    assert [(option.name, option.value) for option in found.options] == [
        ("http-socket", ":80"),
        ("master", ""),
        ("gevent", "100"),
        ("processes", "4"),
        ("module", "mysite.wsgi"),
        ("need-app", ""),
        ("need-app", "true"),
        ("x", "1"),
        ("lazy-apps", ""),
    ]


def test_what_cannot_be_read_is_said(folder: Path) -> None:
    path = folder / "site.ini"
    path.write_text(
        "[uwsgi]\nini = nowhere.ini\nini = site.ini\nxml = a\nif-plugin = X\ngevent = 5\nendif =\nmaster = true\n"
    )
    conf = read_file(path)
    assert conf.get("gevent") is None
    assert conf.is_on("master")
    assert "if-plugin = X" in dict(conf.unread)[f"{path}:5"]
    assert any("nowhere.ini" in what for what, _ in conf.unread)
    rows = look(uwsgi, path)
    assert sum(row.is_skipped for row in rows) >= 3
    assert problems([row for row in rows if row.is_skipped]) == []
    assert ids(look(uwsgi, folder)) == ["E307"]


# What really happens


def start(change: Change, *options: str) -> Callable[[Layout], None]:
    """Return what starts uWSGI with a change, and has the change found."""

    def begin(layout: Layout) -> None:
        (ini,) = layout.emit("uwsgi", "--listen", f"127.0.0.1:{layout.port}", "--workers", "1", *options)
        ini.write_text(change(ini.read_text()))
        layout.found = ids(look(uwsgi, ini, layout.settings))
        layout.run_site(find_uwsgi("--route"), "--ini", ini)

    return begin


def slowly(begin: Callable[[Layout], None]) -> Callable[[Layout], None]:
    """Have sockets closed over a time in which what uWSGI does about its router is surely done."""

    def begin_slowly(layout: Layout) -> None:
        layout.settings["WSREDIS"]["DRAIN_SECONDS"] = 3
        begin(layout)

    return begin_slowly


def term(layout: Layout) -> None:
    layout.sites[0].popen.send_signal(signal.SIGTERM)


def slow_view(layout: Layout) -> None:
    layout.sites[0].wait_for(r"\(HTTP/1\.1 101\)")  # a worker has one harakiri: the handshake's end would be its end
    with pytest.raises(OSError):
        layout.get("slow/20000/")


def nothing(layout: Layout) -> None:
    pass


@pytest.mark.parametrize(
    ("id", "begin", "act", "code"),
    [
        ("", slowly(start(str, "--router")), term, 1001),
        ("W315", start(add("harakiri = 2")), slow_view, 1006),
        ("W316", start(add("max-requests = 20", "min-worker-lifetime = 0")), many_views, 1001),
        ("W317", start(add("evil-reload-on-rss = 1", "mem-collector-freq = 1")), nothing, 1006),
        ("W318", start(add("idle = 2")), nothing, 1001),
        ("W320", slowly(start(swap("hook-master-start = .*", "die-on-term = true"), "--router")), term, 1006),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_real_uwsgi_ends_websockets_so(
    shared_redis: RedisServer, database: object, folder: Path, id: str, begin: Any, act: Any, code: int
) -> None:
    with layouts.running(begin, folder, shared_redis) as layout:
        assert layout.found == ([id] if id else [])
        with ExitStack() as stack:
            count = 5 if act is term else 1  # the first one is closed at once, the others later
            sockets = [stack.enter_context(layout.connect(FACILITY)) for _ in range(count)]
            act(layout)
            codes = [end_of(socket, 30) for socket in sockets]
        assert code in codes
        assert code != 1001 or set(codes) == {1001}


def test_term_reloads_a_real_uwsgi_without_die_on_term(
    shared_redis: RedisServer, database: object, folder: Path
) -> None:
    with layouts.running(start(drop("die-on-term")), folder, shared_redis) as layout:
        assert layout.found == ["W319"]
        seen = len(layout.lines)
        term(layout)
        layout.sites[0].wait_for(r"spawned uWSGI worker 1", start=seen)
        layout.sites[0].popen.send_signal(signal.SIGINT)


def test_a_real_router_drops_what_browsers_send(shared_redis: RedisServer, database: object, folder: Path) -> None:
    begin = start(drop("http-websockets"), "--router")
    with layouts.running(begin, folder, shared_redis) as layout:
        assert layout.found == ["E313"]
        with layout.connect(f"{FACILITY}&publish-broadcast&echo", close_timeout=0.1) as socket:
            socket.send("is anybody there?")
            with pytest.raises(TimeoutError):
                socket.recv(2)


def test_a_real_router_cuts_what_is_silent(shared_redis: RedisServer, database: object, folder: Path) -> None:
    def begin(layout: Layout) -> None:
        layout.settings["WSREDIS"]["PING_INTERVAL"] = 30
        start(swap("http-timeout = .*", "http-timeout = 2"), "--router")(layout)

    with layouts.running(begin, folder, shared_redis) as layout:
        assert layout.found == ["E314"]
        with layout.connect(FACILITY) as socket:
            assert end_of(socket) == 1006


def test_a_real_worker_is_killed_while_it_drains(shared_redis: RedisServer, database: object, folder: Path) -> None:
    def begin(layout: Layout) -> None:
        layout.settings["WSREDIS"]["DRAIN_SECONDS"] = 30
        start(swap("worker-reload-mercy = .*", "worker-reload-mercy = 1"))(layout)

    with layouts.running(begin, folder, shared_redis) as layout:
        assert layout.found == ["E323"]
        with ExitStack() as stack:
            sockets = [stack.enter_context(layout.connect(FACILITY)) for _ in range(20)]
            term(layout)
            assert 1006 in [end_of(socket) for socket in sockets]


@pytest.mark.parametrize(("tolerance", "expected"), [(1, ["E323"]), (40, [])])
def test_a_real_emperor_kills_a_vassal_that_takes_too_long(
    shared_redis: RedisServer, database: object, folder: Path, tolerance: int, expected: list[str]
) -> None:
    """When its file is removed."""

    def begin(layout: Layout) -> None:
        layout.settings["WSREDIS"]["DRAIN_SECONDS"] = 10
        names = ("--upstream", f"uwsgi://{folder}/p.sock", "--ws-upstream", f"uwsgi://{folder}/w.sock")
        ini, *_ = layout.emit("uwsgi-emperor", "--listen", f"127.0.0.1:{layout.port}", *names)
        ini.write_text(swap("^emperor-curse-tolerance = .*", f"emperor-curse-tolerance = {tolerance}")(ini.read_text()))
        layout.found = ids(look(uwsgi, ini, layout.settings))
        layout.run_site(find_uwsgi("--route"), "--ini", ini)

    with layouts.running(begin, folder, shared_redis) as layout:
        assert layout.found == expected
        with ExitStack() as stack:
            sockets = [stack.enter_context(layout.connect(FACILITY)) for _ in range(20)]
            (folder / "vassals/websockets.ini").unlink()
            codes = {end_of(socket, 40) for socket in sockets}
            assert (1006 in codes) == bool(expected), codes


def test_a_real_uwsgi_does_not_start(folder: Path) -> None:
    path = write(folder, ["--listen", f"127.0.0.1:{free_port()}"], swap("listen = .*", "listen = 1000000"))
    assert ids(look(uwsgi, path)) == ["E324"]
    done = subprocess.run([find_uwsgi(), "--ini", path], capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert "Listen queue size is greater than the system max net.core.somaxconn" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("change", "unknown"),
    [
        (str, []),
        (add("log-to = /dev/null"), ["log-to"]),
        (add("worker-reload-merci = 60"), ["worker-reload-merci"]),
        (add("folder = /tmp", "print = %(folder)"), ["folder"]),
        (add("set = folder=/tmp"), ["folder"]),
        (add("set-placeholder = folder=/tmp", "print = %(folder)"), []),
        (lambda text: add("log-to = /dev/null")(drop("strict")(text)), []),
        (lambda text: add("M = true")(drop("master")(text)), ["M"]),  # a letter is of a command line alone
    ],
)
def test_e333_a_real_strict_uwsgi_takes_no_unknown_option(folder: Path, change: Change, unknown: list[str]) -> None:
    path = write(folder, ["--listen", f"127.0.0.1:{free_port()}"], change)
    rows = look(uwsgi, path)
    assert ids(rows) == ["E333"] * len(unknown)
    process = Process([str(find_uwsgi()), "--ini", str(path)], cwd=folder)
    try:
        if unknown:
            process.wait_for(re.escape(f"[strict-mode] unknown config directive: {unknown[0]}"))
            assert process.popen.wait(10) != 0
            assert found(rows, "names of options").found == f"not known: {unknown[0]}"
        else:
            process.wait_for("your server socket listen backlog")
    finally:
        process.stop()


def test_w326_a_letter_in_a_file_is_no_option_also_of_a_real_uwsgi(folder: Path) -> None:
    def change(text: str) -> str:
        text = drop("master", "strict", "touch-chain-reload")(text)
        return add("M = true", "p = 4")(text)

    path = write(folder, ["--listen", f"127.0.0.1:{free_port()}"], change)
    rows = look(uwsgi, path)
    assert {"W326", "W308"} <= set(ids(rows))
    hints = [problem.hint for problem in problems(rows) if problem.id == "wsredis.W308"]
    assert [hint.partition("?")[0] for hint in hints] == ["Did you mean master = true", "Did you mean processes = 4"]
    process = Process([str(find_uwsgi()), "--ini", str(path)], cwd=folder)
    try:
        process.wait_for("you are running uWSGI without its master process manager")
    finally:
        process.popen.kill()  # with gevent and without a master it does not stop by itself
        process.stop()


def test_letters_of_a_command_line_are_options_also_of_a_real_strict_uwsgi(folder: Path) -> None:
    path = write(folder, ["--listen", f"127.0.0.1:{free_port()}"], lambda text: drop("processes")(drop("master")(text)))
    words = ["--ini", str(path), "-M", "-p", "1", "-L", "-z", "30"]
    conf = read_command(words, folder)
    program = inspect(find_uwsgi(), conf, Patience())
    assert isinstance(program, Program)
    assert conf.is_on("master")
    row = names.row(conf, program)
    assert (row.found, row.problems) == ("known", ())
    process = Process([str(find_uwsgi()), *words], cwd=folder)
    try:
        process.wait_for("spawned uWSGI master process")
        assert "strict-mode" not in process.output
    finally:
        process.stop()


def test_names_that_are_not_known_are_not_called_known(folder: Path) -> None:
    lines = add("log-to = /x", "folder = /srv", "print = %(folder)")
    path = write(folder, [], lambda text: lines(drop("strict")(text)))
    row = found(look(uwsgi, path), "names of options")
    assert (row.found, row.problems) == ("not known: log-to", ())


@pytest.mark.parametrize("loader", ["autoload = true", "dlopen = /nonexistent.so", "plugins = nonexistent"])
def test_options_of_plugins_that_cannot_be_asked_are_not_judged(folder: Path, loader: str) -> None:
    row = found(look(uwsgi, write(folder, [], add(loader, "log-to = /x"))), "names of options")
    assert (row.verdict, row.problems) == ("not checked", ())


def test_a_real_uwsgi_with_tls_in_its_worker_refuses_websockets(
    shared_redis: RedisServer, database: object, folder: Path
) -> None:
    """What test_layouts.py shows of E312 and E311 is found."""

    def begin(layout: Layout) -> None:
        cert, key = certificate(layout.folder)
        layout.tls = trust(cert)
        start(swap("^http-socket = (.*)$", rf"https-socket = \1,{cert},{key}"))(layout)

    with layouts.running(begin, folder, shared_redis) as layout:
        assert layout.found == ["E312"]
        assert status_of(layout) == 503


def test_a_real_uwsgi_without_threads_refuses_websockets(
    shared_redis: RedisServer, database: object, folder: Path
) -> None:
    begin = start(drop("enable-threads", "threads"), "--threads", "2")
    with layouts.running(begin, folder, shared_redis) as layout:
        assert layout.found == ["E311"]
        assert status_of(layout) == 503


def test_real_routes_that_are_not_offloaded_are_full_soon(
    shared_redis: RedisServer, database: object, folder: Path
) -> None:
    def begin(layout: Layout) -> None:
        names = ("--upstream", f"uwsgi://{folder}/p.sock", "--ws-upstream", f"uwsgi://{folder}/w.sock")
        ini, *_ = layout.emit("uwsgi-emperor", "--listen", f"127.0.0.1:{layout.port}", *names)
        ini.write_text(swap("^threads = .*", "threads = 3")(drop("offload-threads")(ini.read_text())))
        layout.found = ids(look(uwsgi, ini, layout.settings))
        layout.run_site(find_uwsgi("--route"), "--ini", ini)

    with layouts.running(begin, folder, shared_redis) as layout:
        assert layout.found == ["W328"]
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(layout.connect(FACILITY, close_timeout=0.1))
            with pytest.raises(TimeoutError), layout.connect(FACILITY, open_timeout=2):
                pass


def test_what_runs_is_found(shared_redis: RedisServer, database: object, folder: Path) -> None:
    with layouts.running(start(add("harakiri = 30")), folder, shared_redis) as layout:
        rows = look(uwsgi, None, layout.settings)
        place = str(folder)
        mine = [problem for problem in problems(rows) if problem.place.startswith(place)]
        assert [problem.id for problem in mine] == ["wsredis.W315"]


@pytest.mark.parametrize("prefix", [[], ["procname-prefix = uwsgi: "]], ids=["", "prefix"])
def test_one_that_shows_a_title_is_not_checked(
    shared_redis: RedisServer, database: object, folder: Path, prefix: list[str]
) -> None:
    with layouts.running(start(add("auto-procname = true", *prefix)), folder, shared_redis) as layout:
        rows = look(uwsgi, None, layout.settings)
        assert "give --uwsgi-conf PATH" in found(rows, f"uWSGI {layout.sites[0].pid}").found


def test_another_projects_uwsgi_is_let_be(shared_redis: RedisServer, database: object, folder: Path) -> None:
    with layouts.running(start(add("harakiri = 30")), folder, shared_redis) as layout:
        with override_settings(WSGI_APPLICATION="other.wsgi.application", **SETTINGS):
            rows = list(uwsgi.look(Situation()))
        name = f"uWSGI {layout.sites[0].pid}"
        assert found(rows, name).found.startswith("it runs, but not this project")
        assert not [problem for problem in problems(rows) if problem.place.startswith(str(folder))]


def test_routes_that_go_on_and_those_that_are_not_understood(folder: Path) -> None:
    header = "route = .* addheader:X-Frame-Options: DENY\nroute = ^/ws/ "
    path = write(folder, ["emperor"], swap(r"route = \^/ws/ ", header))
    assert ids(look(uwsgi, path)) == []
    path.write_text(add("route-host = ^x$ break:")(path.read_text()))
    rows = look(uwsgi, path)
    assert ids(rows) == []
    assert found([row for row in rows if row.is_skipped], "uwsgi.ini: route").found.endswith("is not understood here")
    (folder / "b").mkdir()
    own = write(folder / "b", [], add("route = ^/api/ uwsgi:/run/api.sock,0,0"))  # a site that routes a part of itself
    assert ids(look(uwsgi, own)) == []


def test_a_wsgi_file_is_known_by_its_path(folder: Path) -> None:
    path = write(folder, [], swap("module = .*", "wsgi-file = tests/project/wsgi.py"))
    row = found(look(uwsgi, path), "application")
    assert (row.found, row.verdict) == ("tests.project.wsgi:application", "ok")
    (folder / "b").mkdir()
    path = write(folder / "b", [], swap("module = .*", "wsgi-file = tests/test_checks.py\ncallable = djangos_own"))
    assert ids(look(uwsgi, path)) == ["W309"]
    (folder / "c").mkdir()
    path = write(folder / "c", [], swap("module = .*", "wsgi-file = /srv/elsewhere/wsgi.py"))
    assert found(look(uwsgi, path), "application").is_skipped


def test_vassals_of_others_are_let_be(folder: Path) -> None:
    path = write(folder, ["emperor"])
    (folder / "vassals/other.ini").write_text("[uwsgi]\nmodule = other.wsgi\nlisten = 1000000\n")
    rows = look(uwsgi, path)
    assert ids(rows) == []
    assert found(rows, "vassals/other.ini").is_skipped
    path.write_text(swap("emperor = .*", "emperor = /nowhere")(path.read_text()))
    assert found(look(uwsgi, path), "vassals").is_skipped
