"""wscheck reads the limit of open files from the servers that run, as they are started by a shell that allows few."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from django_wsredis.checks import kernel, processes
from django_wsredis.checks.findings import Problem, Row
from django_wsredis.checks.situation import Situation
from django_wsredis.checks.system import files

from .conftest import DATABASE
from .layouts import find_uwsgi
from .looking import add, emit, found
from .servers import ROOT, Process, RedisServer, free_port, wait_until

FEW = 1024  # as systemd and most shells allow


def look(uwsgi_conf: Path | None = None, **wsredis: Any) -> list[Row]:
    with override_settings(WSREDIS=wsredis):
        return list(files.rows(Situation(uwsgi_conf=uwsgi_conf)))


def only(rows: list[Row], id: str) -> Problem:
    (problem,) = (problem for row in rows for problem in row.problems)
    assert problem.id == f"wsredis.{id}"
    return problem


def command(kind: str, folder: Path, *lines: str) -> list[str]:
    """Return what starts a server with two workers."""
    listen = ("--listen", f"127.0.0.1:{free_port()}")
    match kind:
        case "uwsgi":
            (path,) = emit("uwsgi", folder, *listen)
            path.write_text(add(*lines)(path.read_text()))
            return [str(find_uwsgi()), "--ini", str(path)]
        case "gunicorn":
            (path,) = emit("gunicorn", folder, *listen)
            return [sys.executable, "-m", "gunicorn", "-c", str(path), "tests.project.wsgi"]
    return [sys.executable, str(ROOT / "tests/project/manage.py"), "runwsserver", listen[1], "--workers", "2"]


@contextmanager
def running(folder: Path, redis: RedisServer, words: list[str], soft: int, hard: int) -> Iterator[Process]:
    """Run a server in which each process may open so many files."""
    environment = {**os.environ, "TEST_DATABASE": str(DATABASE), "TEST_REDIS_URL": f"unix://{redis.socket}"}
    limited = ["prlimit", f"--nofile={soft}:{hard}", *words]
    process = Process(limited, cwd=folder, env={**environment, "PYTHONPATH": str(ROOT)})
    try:
        wait_until(lambda: len(processes.workers_of(process.pid)) > 1, 20, f"two workers; so far:\n{process.output}\n")
        yield process
    finally:
        process.stop()


@pytest.mark.parametrize("kind", ["uwsgi", "gunicorn"])
def test_w552_the_soft_limit_of_what_runs_and_not_of_the_shell(
    folder: Path, shared_redis: RedisServer, kind: str
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard < 0 or hard > 10_000, "so the shell's own limit would do"
    with running(folder, shared_redis, command(kind, folder), FEW, 20_000) as process:
        rows = look(MAX_SOCKETS=10_000)
        (row,) = rows
        name = {"uwsgi": "uWSGI"}.get(kind, kind)
        assert row.checked == f"open files of {name} {process.pid}"
        assert row.found == "soft limit 1,024, hard limit 20,000; MAX_SOCKETS 10,000"
        problem = only(rows, "W552")
        assert problem.text.startswith(f"{name} {process.pid}, which runs, may open 1,024 files (soft limit)")
        assert "LimitNOFILE=20000" in problem.hint
        assert ("max-fd = 20000" in problem.hint) == (kind == "uwsgi")
        only(look(), "I553")
        assert look(MAX_SOCKETS=900)[0].problems == ()


def test_w551_the_hard_limit_of_what_runs(folder: Path, shared_redis: RedisServer) -> None:
    with running(folder, shared_redis, command("gunicorn", folder), FEW, 4096):
        assert "may open 4,096 files (hard limit)" in only(look(MAX_SOCKETS=10_000), "W551").text


def test_runwsserver_raises_its_soft_limit(folder: Path, shared_redis: RedisServer) -> None:
    with running(folder, shared_redis, command("runwsserver", folder), FEW, 12_000) as process:
        row = wait_until(
            lambda: next((row for row in look(MAX_SOCKETS=10_000) if row.found.startswith("soft limit 12,000")), None)
        )
        assert (row.checked, row.problems) == (f"open files of runwsserver {process.pid}", ())
        only(look(MAX_SOCKETS=20_000), "W551")


def test_w551_max_fd_of_a_running_uwsgi_is_its_limit(folder: Path, shared_redis: RedisServer) -> None:
    with running(folder, shared_redis, command("uwsgi", folder, "max-fd = 5000"), 20_000, 20_000):
        rows = look(MAX_SOCKETS=10_000)
        assert rows[0].found.startswith("soft limit 5,000, hard limit 5,000;")
        only(rows, "W551")
        assert look(MAX_SOCKETS=4900)[0].problems == ()


def test_max_fd_of_a_file_counts_where_nothing_runs(folder: Path) -> None:
    (path,) = emit("uwsgi", folder)
    (row,) = look(path, MAX_SOCKETS=10_000)
    assert row.checked == "open files"
    path.write_text(add("max-fd = 500")(path.read_text()))
    rows = look(path, MAX_SOCKETS=10_000)
    problem = only(rows, "W551")
    assert [row.checked for row in rows] == [f"open files of {path.name}"]
    assert problem.place == f"{path}:{len(path.read_text().splitlines())}"
    assert problem.text.startswith(f"uWSGI with max-fd of {path.name} may open 500 files")
    assert problem.hint == "In uWSGI's file, if root starts it: max-fd = 20000"
    assert look(path, MAX_SOCKETS=400)[0].problems == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a process as another user")
def test_a_server_of_another_user_is_said_and_the_shells_limit_is_named_as_such(
    folder: Path, shared_redis: RedisServer
) -> None:
    folder.chmod(0o755)
    words = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-m", "gunicorn", "tests.project.wsgi"]
    process = Process(words, cwd=folder)
    try:
        wait_until(lambda: any(each.pid == process.pid for each in processes.running("gunicorn")))
        rows = look(MAX_SOCKETS=10_000)
        row = found(rows, f"open files of gunicorn {process.pid}")
        assert row.is_skipped
        assert row.found == "it is run by the user nobody; run wscheck as that user"
        assert found(rows, "open files").found.endswith(
            "of this shell, as no server of this project is seen to run here"
        )
    finally:
        process.stop()


def test_a_limit_that_cannot_be_read_is_said(
    folder: Path, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(folder, shared_redis, command("gunicorn", folder), FEW, 4096) as process:
        read = kernel.text
        monkeypatch.setattr(kernel, "text", lambda name: "" if name.endswith("/limits") else read(name))
        row = found(look(MAX_SOCKETS=10_000), f"open files of gunicorn {process.pid}")
        assert (row.is_skipped, row.found) == (True, "its limit cannot be read")


@pytest.mark.parametrize(
    ("script", "is_ours"),
    [("manage.py", True), ("tests/project/manage.py", True), ("elsewhere/manage.py", False)],
)
def test_whose_project_a_command_runs(folder: Path, script: str, is_ours: bool) -> None:
    base = folder if script.startswith("elsewhere") else ROOT
    process = processes.Open("runwsserver 1", 1, (), folder, base / script)
    assert processes.is_our_command(process) is is_ours
    assert processes.is_our_command(process._replace(folder=ROOT))
