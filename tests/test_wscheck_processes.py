"""What wscheck looks into of what runs: its own processes, and never what somebody else's would have it execute."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from django_wsredis.checks import gunicorn, processes, uwsgi
from django_wsredis.checks.findings import Row
from django_wsredis.checks.processes import _start, is_ours, open_to_us, running

from .looking import found, look
from .servers import wait_until

OURS = "tests.project.wsgi:application"
NOBODY = "nobody"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a process as another user")


@contextmanager
def process(name: str, words: Sequence[str], executable: Path | str, folder: Path, user: str | None) -> Iterator[int]:
    """Run something that waits for its input, or sleeps; yield its process id when its command line is there."""
    popen = subprocess.Popen(words, executable=executable, cwd=folder, user=user, stdin=subprocess.PIPE)
    try:
        wait_until(lambda: popen.pid in [one.pid for one in running(name)])
        yield popen.pid
    finally:
        popen.kill()
        popen.communicate()


def trap(folder: Path, name: str) -> tuple[Path, list[str]]:
    """Return a file that is made by whoever runs what is in the folder, and what runs it as a server does."""
    marker = folder / "marker"
    program = folder / name
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && touch {marker}\nread line\n')
    program.chmod(0o755)
    (folder / "gunicorn.conf.py").write_text(f"open('{marker}', 'w')\n")
    words = ["python3", str(program), *(["--module"] if name == "uwsgi" else []), OURS]  # Python, as far as can be read
    return marker, words


def rows_of(area: ModuleType, name: str, words: list[str], folder: Path, user: str | None) -> tuple[str, list[Row]]:
    with process(name, words, "/bin/sh", folder, user) as pid, pytest.MonkeyPatch.context() as patch:
        # of several servers the program of the first one is asked, and other tests may run some
        patch.setattr(processes, "running", lambda name: (one for one in running(name) if one.pid == pid))
        return f"{'uWSGI' if name == 'uwsgi' else name} {pid}", look(area, None)


@needs_root
@pytest.mark.parametrize("area", [gunicorn, uwsgi])
def test_what_somebody_else_runs_is_not_executed(folder: Path, area: ModuleType) -> None:
    name = area.__name__.rpartition(".")[2]
    folder.chmod(0o755)
    marker, words = trap(folder, name)
    row_name, rows = rows_of(area, name, words, folder, NOBODY)
    assert not marker.exists()
    row = found(rows, row_name)
    assert row.is_skipped
    assert row.found == f"it is run by the user nobody; run wscheck as that user, or give --{name}-conf PATH"
    rows_of(area, name, words, folder, None)
    assert marker.exists()  # it is a trap


@needs_root
@pytest.mark.parametrize("area", [gunicorn, uwsgi])
def test_roots_process_does_not_open_files_of_others(folder: Path, area: ModuleType) -> None:
    name = area.__name__.rpartition(".")[2]
    marker, words = trap(folder, name)
    for path in folder.iterdir():
        shutil.chown(path, NOBODY)
    row_name, rows = rows_of(area, name, words, folder, None)
    assert not marker.exists()
    assert "belongs to the user nobody; run wscheck as that user" in found(rows, row_name).found


@needs_root
def test_the_usual_file_of_somebody_else_is_not_executed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker, _ = trap(folder, "gunicorn")
    monkeypatch.chdir(folder)
    shutil.chown("gunicorn.conf.py", NOBODY)
    rows = look(gunicorn, None)
    assert not marker.exists()
    assert "belongs to the user nobody" in found(rows, "gunicorn.conf.py").found
    shutil.chown("gunicorn.conf.py", "root")
    look(gunicorn, None)
    assert marker.exists()


def test_the_probe_imports_nothing_from_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = folder / "marker"
    for name in ("json", "gunicorn"):
        (folder / f"{name}.py").write_text(f"open('{marker}', 'w')\n")
    (folder / "conf.py").write_text("workers = 3\n")
    monkeypatch.chdir(folder)
    rows = look(gunicorn, folder / "conf.py")
    assert not marker.exists()
    assert found(rows, "workers").found.startswith("3 of ")


@needs_root
def test_a_vassal_of_somebody_else_is_not_loaded(folder: Path) -> None:
    (folder / "vassals").mkdir()
    vassal = folder / "vassals/site.ini"
    vassal.write_text(f"[uwsgi]\nmodule = {OURS}\nplugins-dir = /tmp\nplugins = evil\n")
    (folder / "emperor.ini").write_text(f"[uwsgi]\nemperor = {folder}/vassals\n")
    shutil.chown(vassal, NOBODY)
    row = found(look(uwsgi, folder / "emperor.ini"), "vassals/site.ini")
    assert row.is_skipped
    assert "belongs to the user nobody" in row.found


@needs_root
def test_a_set_user_id_program_is_its_starters(folder: Path) -> None:
    """It has root's effective uid, and somebody else's arguments and folder."""
    folder.chmod(0o755)
    program = set_user_id(folder)
    with process("gunicorn", ["gunicorn", "60"], program, folder, NOBODY) as pid:
        (one,) = (one for one in running("gunicorn") if one.pid == pid)
        assert one.uid == pwd.getpwnam(NOBODY).pw_uid
        assert one.folder is None


def set_user_id(folder: Path) -> Path:
    program = Path(shutil.copy(shutil.which("sleep") or "", folder / "program"))
    program.chmod(0o755 | stat.S_ISUID)
    return program


def test_a_set_user_id_program_of_ours_is_closed(folder: Path) -> None:
    """sudo has all uids of root while it asks for a password, and its caller's arguments and folder."""
    with process("gunicorn", ["gunicorn", "60"], set_user_id(folder), folder, None) as pid:
        assert "may not be looked into" in found(look(gunicorn, None), f"gunicorn {pid}").found


def test_a_folder_that_is_not_where_it_seems_is_closed(folder: Path) -> None:
    """As in a container, whose /srv is not ours; here the folder was removed, and made anew."""
    gone = folder / "gone"
    gone.mkdir()
    with process("gunicorn", ["gunicorn", "60"], shutil.which("sleep") or "", gone, None) as pid:
        gone.rmdir()
        (folder / "gone (deleted)").mkdir()
        assert "may not be looked into" in found(look(gunicorn, None), f"gunicorn {pid}").found


@pytest.mark.parametrize("title", ["uwsgi: master", "uwsgi: worker 1"])
def test_a_title_is_no_command_line(folder: Path, title: str) -> None:
    with process("uwsgi", [title, "60"], shutil.which("sleep") or "", folder, None) as pid:
        rows = look(uwsgi, None)
        assert found(rows, f"uWSGI {pid}").found.endswith("shows no command line but a title; give --uwsgi-conf PATH")
        assert not [row for row in rows if row.found.endswith("none runs")]


def test_a_script_that_starts_a_server_is_none(folder: Path) -> None:
    script = folder / "gunicorn"
    script.write_text("#!/bin/sh\necho ready\nread line\n")
    script.chmod(0o755)
    popen = subprocess.Popen([script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert popen.stdout
    try:
        popen.stdout.readline()
        assert Path(f"/proc/{popen.pid}/comm").read_text() == "gunicorn\n"
        assert popen.pid not in [one.pid for one in running("gunicorn")]
    finally:
        popen.kill()
        popen.communicate()


def test_the_programs_own_arguments_and_file(folder: Path) -> None:
    script = folder / "uwsgi"
    script.write_text("read line\n")
    with process("uwsgi", ["python3.11", "-u", "uwsgi", "--ini", "a.ini"], "/bin/sh", folder, None) as pid:
        ours, _ = open_to_us("uwsgi", called="uWSGI", option="--uwsgi-conf")
        (one,) = (one for one in ours if one.name == f"uWSGI {pid}")
        assert (one.arguments, one.folder, one.program) == (["--ini", "a.ini"], folder, script)


@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("gunicorn -c x.py", 1),
        ("/venv/bin/gunicorn", 1),
        ("/venv/bin/python3 /venv/bin/gunicorn mysite.wsgi", 2),
        ("python -u -m gunicorn mysite.wsgi", 4),
        ("python -m other gunicorn", 0),
        ("python -m", 0),
        ("python other.py gunicorn", 0),
        ("python", 0),
        ("vim gunicorn", 0),
        ("gunicorn: master", 0),
    ],
)
def test_where_arguments_begin(line: str, start: int) -> None:
    assert _start(line.split(), "gunicorn") == start


@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("python3 ./manage.py runwsserver 8000", 3),
        ("/venv/bin/python -X dev -W error manage.py runwsserver", 7),
        ("python /venv/bin/django-admin runwsserver", 3),
        ("python -m django runwsserver", 4),
        ("python manage.py shell runwsserver", 0),
        ("python other.py runwsserver", 0),
        ("vim manage.py runwsserver", 0),
    ],
)
def test_where_arguments_of_our_command_begin(line: str, start: int) -> None:
    assert _start(line.split(), "runwsserver") == start


@pytest.mark.parametrize(
    ("application", "expected"),
    [
        ("tests.project.wsgi:application", True),
        ("tests.other", True),
        ("other.wsgi", False),
        ("127.0.0.1:8000", False),
        ("", False),
    ],
)
def test_what_is_ours(application: str, expected: bool) -> None:
    assert is_ours(application) is expected
