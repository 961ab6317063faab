"""wscheck's area gunicorn: each mistake is found in its file, and some are shown in a real gunicorn."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from django_wsredis.checks import gunicorn
from django_wsredis.checks.situation import Situation

from . import layouts
from .layouts import Layout, certificate
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
from .servers import RedisServer
from .tls import trust


def write(folder: Path, change: Change = str, *options: str) -> Path:
    """Return the printed configuration with a change in it."""
    (path,) = emit("gunicorn", folder, *options)
    path.write_text(change(path.read_text()))
    return path


@pytest.mark.parametrize(
    "options", [[], ["--listen", "/run/x.sock"], ["--threads", "2", "--workers", "9"]], ids=" ".join
)
def test_what_is_printed_has_no_problem(folder: Path, options: list[str]) -> None:
    assert_all_is_well(look(gunicorn, write(folder, str, *options)))


@pytest.mark.parametrize(
    ("id", "change"),
    [
        ("E402", add("1 / 0")),
        ("E402", swap("^workers = .*", "workers = 'many'")),
        ("E402", swap("^chdir = .*", 'chdir = "/nowhere"')),
        ("E403", swap("gthread", "asgi")),
        ("W404", swap("^threads = .*", "threads = 1")),
        ("E405", swap("^graceful_timeout = [0-9]+", "graceful_timeout = 5")),
        ("W406", add("max_requests = 1000")),
        ("W407", swap("preload_app = False", "preload_app = True")),
        ("W408", swap("^wsgi_app = .*", 'wsgi_app = "tests.test_checks:djangos_own"')),
        ("E409", add("certfile = '/dev/null'")),
    ],
)
def test_one_mistake_is_one_problem(folder: Path, id: str, change: Change) -> None:
    (folder / "right").mkdir()
    assert ids(look(gunicorn, write(folder / "right"))) == []
    path = write(folder, change)
    assert_only(problems(look(gunicorn, path)), id, path)


def test_the_mercy_that_is_not_written_is_judged(folder: Path) -> None:
    path = write(folder, drop("graceful_timeout"))
    assert ids(look(gunicorn, path)) == []
    (problem,) = problems(look(gunicorn, path, {"WSREDIS": {"DRAIN_SECONDS": 30}}))
    assert problem.text.startswith("graceful_timeout is 30, not above DRAIN_SECONDS, 30")


def test_the_sync_worker_is_named(folder: Path) -> None:
    path = write(folder, lambda text: swap("gthread", "sync")(swap("^threads = .*", "threads = 1")(text)))
    (problem,) = problems(look(gunicorn, path))
    assert problem.id == "wsredis.W404"
    assert "takes longer than 30 s ends it, with its websockets" in problem.text


@pytest.mark.parametrize("kind", ["gevent", "gunicorn.workers.ggevent.GeventWorker"])
def test_gevents_workers_are_right(folder: Path, kind: str) -> None:
    assert ids(look(gunicorn, write(folder, swap("gthread", kind)))) == []


def test_an_unknown_class_is_not_judged(folder: Path) -> None:
    path = write(folder, swap('"gthread"', '"tests.nowhere.Worker"'))
    rows = look(gunicorn, path)
    assert ids(rows) in ([], ["E402"])
    own = write_own(folder)
    assert found(look(gunicorn, own), "workers").is_skipped


def write_own(folder: Path) -> Path:
    path = folder / "own.py"
    path.write_text(
        "from gunicorn.workers.gthread import ThreadWorker\nclass Own(ThreadWorker): pass\n"
        "worker_class = Own\nwsgi_app = 'tests.project.wsgi:application'\n"
    )
    return path


def test_an_old_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gunicorn, "version", lambda name: "20.1.0")
    assert ids(look(gunicorn, write(folder))) == ["W401"]


def test_its_code_runs_elsewhere_and_not_for_long(folder: Path) -> None:
    path = write(
        folder, add("import os, sys, time", f"open('{folder}/pid', 'w').write(str(os.getpid()))", "time.sleep(60)")
    )
    began = time.monotonic()
    rows = look(gunicorn, path)
    assert time.monotonic() - began < 5
    assert found(rows, "configuration").is_skipped
    pid = int((folder / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_file_that_prints_and_one_that_exits(folder: Path) -> None:
    assert ids(look(gunicorn, write(folder, add("print('{}')")))) == []
    (folder / "b").mkdir()
    assert ids(look(gunicorn, write(folder / "b", add("raise SystemExit(0)")))) == ["E402"]


def test_gunicorns_usual_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gunicorn.instances, "open_to_us", lambda name, **options: ({}, []))
    monkeypatch.chdir(folder)
    assert found(look(gunicorn, None), "gunicorn's configuration").is_skipped
    write(folder, swap("preload_app = False", "preload_app = True"))
    assert ids(look(gunicorn, None)) == ["W407"]


# What really happens


def start(change: Change, *arguments: str) -> Any:
    """Return what starts gunicorn with a change, and has the change found."""

    def begin(layout: Layout) -> None:
        (path,) = layout.emit("gunicorn", "--listen", f"127.0.0.1:{layout.port}", "--workers", "1")
        path.write_text(change(path.read_text()))
        layout.found = ids(look(gunicorn, path, layout.settings))
        layout.run_site(sys.executable, "-m", "gunicorn", "-c", path, *arguments)

    return begin


def slow_view(layout: Layout) -> None:
    """It ends its worker before it answers."""
    with suppress(OSError):
        assert layout.get("slow/20000/")[0] == 500


def stop(layout: Layout) -> None:
    layout.sites[0].popen.send_signal(signal.SIGTERM)


def sync(text: str) -> str:
    return swap("gthread", "sync")(swap("^threads = .*", "threads = 1\ntimeout = 2")(text))


@pytest.mark.parametrize(
    ("id", "change", "act", "code"),
    [
        ("W406", add("max_requests = 20"), many_views, 1001),
        ("W404", sync, slow_view, 1001),
    ],
)
def test_a_real_gunicorn_ends_websockets_so(
    shared_redis: RedisServer, database: object, folder: Path, id: str, change: Change, act: Any, code: int
) -> None:
    with layouts.running(start(change), folder, shared_redis) as layout:
        assert layout.found == [id]
        with layout.connect(FACILITY) as socket:
            act(layout)
            assert end_of(socket) == code


def test_a_real_worker_is_killed_while_it_drains(shared_redis: RedisServer, database: object, folder: Path) -> None:
    def begin(layout: Layout) -> None:
        layout.settings["WSREDIS"]["DRAIN_SECONDS"] = 30
        start(swap("^graceful_timeout = [0-9]+", "graceful_timeout = 1"))(layout)

    with layouts.running(begin, folder, shared_redis) as layout:
        assert layout.found == ["E405"]
        with layout.connect(FACILITY) as one, layout.connect(FACILITY) as two, layout.connect(FACILITY) as three:
            stop(layout)
            assert 1006 in [end_of(socket) for socket in (one, two, three)]


def test_a_real_gunicorn_with_a_certificate_refuses_websockets(
    shared_redis: RedisServer, database: object, folder: Path
) -> None:
    def begin(layout: Layout) -> None:
        cert, key = certificate(layout.folder)
        layout.tls = trust(cert)
        start(add(f"certfile, keyfile = '{cert}', '{key}'"))(layout)

    with layouts.running(begin, folder, shared_redis) as layout:
        assert layout.found == ["E409"]
        assert status_of(layout) == 503


def test_what_runs_is_found_with_its_command_line(shared_redis: RedisServer, database: object, folder: Path) -> None:
    with layouts.running(start(add("max_requests = 100000"), "--preload"), folder, shared_redis) as layout:
        rows = look(gunicorn, None, layout.settings)
        mine = [problem for problem in problems(rows) if problem.place.startswith(str(folder))]
        assert [problem.id for problem in mine] == ["wsredis.W406", "wsredis.W407"]
        with override_settings(WSGI_APPLICATION="other.wsgi.application", **SETTINGS):
            rows = list(gunicorn.look(Situation()))
        assert not [problem for problem in problems(rows) if problem.place.startswith(str(folder))]
        assert found(rows, f"gunicorn {layout.sites[0].pid}").is_skipped


def test_one_that_shows_no_command_line_is_not_checked() -> None:
    process = subprocess.Popen(["gunicorn: master [mysite]", "60"], executable=shutil.which("sleep"))
    try:
        row = found(look(gunicorn, None), f"gunicorn {process.pid}")
        assert row.is_skipped
        assert "--gunicorn-conf" in row.found
    finally:
        process.kill()
        process.wait()
