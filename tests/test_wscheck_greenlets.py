"""wscheck on views that are greenlets: what patches Python and when, and what of a project does not bear it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.db import ConnectionHandler
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views import View

from django_wsredis.checks import greenlets, gunicorn, uwsgi
from django_wsredis.checks.findings import Problem
from django_wsredis.checks.uwsgi.program import TESTED
from django_wsredis.hosts import patching

from . import layouts
from .layouts import Layout, find_uwsgi
from .looking import Change, add, assert_only, assert_said_well, emit, found, ids, look, problems, swap
from .servers import ROOT, RedisServer

EARLY, LATE = "gevent-early-monkey-patch = true", "gevent-monkey-patch = true"
THREADS = "in threads, as gevent patches nothing"


@pytest.fixture(autouse=True)
def _program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled uWSGI, wherever it is."""
    program = find_uwsgi("--route", "--https")
    monkeypatch.setattr(uwsgi, "find_program", lambda *names: program)


def write(area: ModuleType, folder: Path, change: Change = str) -> Path:
    """Return the printed configuration with a change in it."""
    (written,) = emit(area.__name__.rpartition(".")[2], Path(tempfile.mkdtemp(dir=folder)))
    written.write_text(change(written.read_text()))
    return written


def gevents(text: str) -> str:
    return swap("gthread", "gevent")(text)


PATCHING = [
    pytest.param(uwsgi, add(EARLY), ("W330", "W331", "W332"), id="uwsgi"),
    pytest.param(gunicorn, gevents, ("W411", "W412", "W413"), id="gunicorn"),
]
THREADED = [
    pytest.param(uwsgi, str, id="uwsgi"),
    pytest.param(uwsgi, swap("^gevent = .*", "threads = 4"), id="uwsgi with threads"),
    pytest.param(uwsgi, add("gevent-early-monkey-patch = false"), id="uwsgi with no"),
    pytest.param(gunicorn, str, id="gunicorn"),
]


# When it patches


def test_what_is_printed_for_uwsgi_patches_nothing(folder: Path) -> None:
    rows = look(uwsgi, write(uwsgi, folder))
    assert found(rows, "views").found == THREADS
    assert not [row for row in rows if row.checked in ("database drivers", "kept connections", "async views")]


@pytest.mark.parametrize("lazy", ["lazy-apps = true", "lazy-apps = false"])
def test_e329_uwsgi_patches_too_late(folder: Path, lazy: str) -> None:
    given = swap("^(lazy-apps = .*|touch-chain-reload = .*\n)", "")
    assert ids(look(uwsgi, write(uwsgi, folder, lambda text: add(lazy, EARLY)(given(text))))) == []
    written = write(uwsgi, folder, lambda text: add(lazy, LATE)(given(text)))
    assert_only(problems(look(uwsgi, written)), "E329", written)
    written.write_text(add(EARLY)(written.read_text()))  # both: the first one counts
    assert ids(look(uwsgi, written)) == []


def test_e329_not_where_the_project_has_patched_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write(uwsgi, folder, add(LATE))
    monkeypatch.setattr(patching, "_wanted", set(patching.MODULES))
    rows = look(uwsgi, written)
    assert ids(rows) == []
    written = write(uwsgi, folder)
    assert found(look(uwsgi, written), "views").found == "as greenlets, by monkey.patch_all() in the project's code"


def preloading(text: str) -> str:
    return swap("preload_app = False", "preload_app = True")(gevents(text))


def test_e410_gunicorn_imports_the_application_before_it_patches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ids(look(gunicorn, write(gunicorn, folder, gevents))) == []
    written = write(gunicorn, folder, preloading)
    seen = problems(look(gunicorn, written))
    assert [problem.id for problem in seen] == ["wsredis.W407", "wsredis.E410"]
    assert_said_well(seen[1], written)
    own = "from gevent import monkey\n\nmonkey.patch_all()\n"
    assert ids(look(gunicorn, write(gunicorn, folder, lambda text: own + preloading(text)))) == ["W407"]
    monkeypatch.setattr(patching, "_wanted", set(patching.MODULES))  # by wsgi.py
    assert ids(look(gunicorn, write(gunicorn, folder, preloading))) == ["W407"]


# Databases


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what has the project use a database by some driver."""

    def use(driver: str, vendor: str, number: str = "", **options: Any) -> None:
        given = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", **options}
        handler = ConnectionHandler({"default": given})
        module = ModuleType(driver)
        module.__version__ = number  # type: ignore[attr-defined]
        handler["default"].Database = module  # type: ignore[misc]
        handler["default"].vendor = vendor  # type: ignore[misc]
        monkeypatch.setattr(greenlets, "connections", handler)

    return use


@pytest.mark.parametrize(("area", "change", "expected"), PATCHING)
@pytest.mark.parametrize(
    ("driver", "number"),
    [("psycopg2", "2.9.10"), ("psycopg", "3.1.13"), ("MySQLdb", "2.2"), ("cx_Oracle", "8"), ("pyodbc", "5")],
)
def test_a_driver_that_waits_in_c(
    folder: Path, use: Any, area: ModuleType, change: Change, expected: tuple[str, ...], driver: str, number: str
) -> None:
    written = write(area, folder, change)
    assert ids(look(area, written)) == []
    use(driver, "postgresql", number)
    rows = look(area, written)
    assert_only(problems(rows), expected[0], written)
    assert found(rows, "database drivers").found == f"default: {driver}"
    (problem,) = problems(rows)
    assert driver in problem.text
    assert problem.hint.startswith(("pip install ", "remove gevent-early", "worker_class = "))
    assert problem.place == f"{written}:{line_of(written, 'gevent-early' if area is uwsgi else 'worker_class')}"


def line_of(written: Path, start: str) -> int:
    return next(number for number, line in enumerate(written.read_text().splitlines(), 1) if line.startswith(start))


@pytest.mark.parametrize(("area", "change", "expected"), PATCHING)
@pytest.mark.parametrize(
    ("driver", "number"),
    [("psycopg", "3.1.14"), ("psycopg", "3.3.0.dev1"), ("pymysql", "1.1"), ("oracledb", "3.0"), ("sqlite3.dbapi2", "")],
)
def test_a_driver_that_waits_for_gevent(
    folder: Path, use: Any, area: ModuleType, change: Change, expected: object, driver: str, number: str
) -> None:
    use(driver, "postgresql", number)
    assert ids(look(area, write(area, folder, change))) == []


def test_psycogreen_may_be_called_anywhere(folder: Path, use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use("psycopg2", "postgresql", "2.9")
    written = write(uwsgi, folder, add(EARLY))
    assert ids(look(uwsgi, written)) == ["W330"]
    (folder / "psycogreen.py").write_text("")
    monkeypatch.syspath_prepend(str(folder))
    assert ids(look(uwsgi, written)) == []


@pytest.mark.parametrize(("area", "change", "expected"), PATCHING)
@pytest.mark.parametrize("age", [60, None])
def test_connections_that_are_kept(
    folder: Path, use: Any, area: ModuleType, change: Change, expected: tuple[str, ...], age: Any
) -> None:
    written = write(area, folder, change)
    use("psycopg", "postgresql", "3.2", CONN_MAX_AGE=0)
    assert ids(look(area, written)) == []
    use("psycopg", "postgresql", "3.2", CONN_MAX_AGE=age)
    rows = look(area, written)
    assert [problem.id for problem in problems(rows)] == [f"wsredis.{expected[1]}"]
    assert f"CONN_MAX_AGE = {age}" in problems(rows)[0].text
    use("sqlite3", "sqlite", CONN_MAX_AGE=age)
    assert ids(look(area, written)) == []


@pytest.mark.parametrize(("area", "change"), THREADED)
def test_threads_bear_it_all(folder: Path, use: Any, area: ModuleType, change: Change) -> None:
    use("psycopg2", "postgresql", "2.9", CONN_MAX_AGE=60)
    assert ids(look(area, write(area, folder, change), {"ROOT_URLCONF": ASYNC})) == []


def test_a_database_that_cannot_be_loaded_is_not_checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greenlets, "connections", ConnectionHandler({"default": {"ENGINE": "tests.nowhere"}}))
    row = found(look(uwsgi, write(uwsgi, folder, add(EARLY))), "databases")
    assert row.is_skipped
    assert "DATABASES['default']" in row.found


def test_a_site_without_a_database(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greenlets, "connections", ConnectionHandler({}))
    rows = look(uwsgi, write(uwsgi, folder, add(EARLY)))
    assert ids(rows) == []
    assert found(rows, "database drivers").found == "default: none"


def test_connections_of_greenlets_stay_open(tmp_path: Path) -> None:
    """What the warning says, in a process of its own that is patched: sqlite's files stand for connections."""
    code = (
        "from gevent import monkey, spawn; monkey.patch_all()\n"
        "import django, gc, os, sys; django.setup(); gc.disable()\n"
        "from django.db import close_old_connections, connection, connections\n"
        "connections.settings['default']['CONN_MAX_AGE'] = int(sys.argv[1])\n"
        "def view():\n"
        "    close_old_connections()\n"
        "    connection.cursor().execute('SELECT 1')\n"
        "    close_old_connections()\n"
        "for _ in range(10): spawn(view).get()\n"
        "print(sum('kept.sqlite3' in os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')))\n"
    )
    environment = {"DJANGO_SETTINGS_MODULE": "tests.project.settings", "TEST_DATABASE": str(tmp_path / "kept.sqlite3")}
    counts = [run(code, age, environment) for age in ("0", "60")]
    assert counts == ["0", "10"]


def run(code: str, argument: str, environment: dict[str, str]) -> str:
    """Return what code prints in a process of its own."""
    command = [sys.executable, "-c", code, argument]
    done = subprocess.run(command, env={"PATH": "/usr/bin", **environment}, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Async views


async def asynchronous(request: HttpRequest) -> HttpResponse:
    return HttpResponse("later")


class Asynchronous(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("later")


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("now")


def urlconf(*patterns: Any) -> type:
    return type("Urls", (), {"urlpatterns": list(patterns)})


ASYNC = urlconf(path("", page), path("deep/", include([path("view/", asynchronous)])))


@pytest.mark.parametrize(("area", "change", "expected"), PATCHING)
@pytest.mark.parametrize(
    ("urls", "name"), [(ASYNC, "asynchronous"), (urlconf(path("", Asynchronous.as_view())), "Asynchronous")]
)
def test_an_async_view(
    folder: Path, area: ModuleType, change: Change, expected: tuple[str, ...], urls: type, name: str
) -> None:
    written = write(area, folder, change)
    assert found(look(area, written), "async views").found == "none"
    seen: list[Problem] = problems(look(area, written, {"ROOT_URLCONF": urls}))
    assert_only(seen, expected[2], written)
    assert seen[0].text.startswith(f"tests.test_wscheck_greenlets.{name}: async")


def test_many_async_views_are_counted(folder: Path) -> None:
    def view(number: int) -> Any:
        async def view(request: HttpRequest) -> HttpResponse:
            return HttpResponse("later")

        view.__qualname__ = f"view{number}"
        return view

    urls = urlconf(*(path(f"{number}/", view(number)) for number in range(7)))
    (problem,) = problems(look(uwsgi, write(uwsgi, folder, add(EARLY)), {"ROOT_URLCONF": urls}))
    assert "view0" in problem.text
    assert " and 2 more: async" in problem.text


def test_a_urlconf_that_cannot_be_used_is_not_checked(folder: Path) -> None:
    rows = look(uwsgi, write(uwsgi, folder, add(EARLY)), {"ROOT_URLCONF": "tests.nowhere"})
    assert found(rows, "async views").is_skipped


# Versions


def test_the_versions_that_are_told_to_be_tested_are_those_of_the_tests(folder: Path) -> None:
    rows = look(uwsgi, write(uwsgi, folder))
    row = found(rows, "uWSGI and gevent")
    assert f"gevent {version('gevent')}, greenlet {version('greenlet')}, Python 3." in row.found
    assert "; tested: uWSGI 2.0.30 and 2.0.31, gevent " in row.found
    for name in ("gevent", "greenlet"):
        assert version(name).startswith(TESTED[name])


def test_without_gevent_its_version_does_not_matter(folder: Path) -> None:
    rows = look(uwsgi, write(uwsgi, folder, swap("^gevent = .*", "threads = 4")))
    assert not [row for row in rows if row.checked == "uWSGI and gevent"]


# What really happens


def start_uwsgi(*lines: str) -> Callable[[Layout], None]:
    def begin(layout: Layout) -> None:
        (ini,) = layout.emit("uwsgi", "--listen", f"127.0.0.1:{layout.port}", "--workers", "1")
        ini.write_text(add(*lines)(ini.read_text()))
        layout.found = ids(look(uwsgi, ini, layout.settings))
        layout.run_site(find_uwsgi("--route"), "--ini", ini)

    return begin


def start_gunicorn(change: Change) -> Callable[[Layout], None]:
    def begin(layout: Layout) -> None:
        (conf,) = layout.emit("gunicorn", "--listen", f"127.0.0.1:{layout.port}", "--workers", "1")
        conf.write_text(change(gevents(conf.read_text())))
        layout.found = ids(look(gunicorn, conf, layout.settings))
        layout.run_site(sys.executable, "-m", "gunicorn", "-c", conf)

    return begin


def answer_of(layout: Layout) -> int | None:
    """Return the status of a page that uses the database, None if there is no answer at all."""
    try:
        return layout.get("visit/")[0]
    except OSError:
        return None


@pytest.mark.parametrize(
    ("begin", "expected", "is_late"),
    [
        pytest.param(start_uwsgi(EARLY), [], False, id="uwsgi, early"),
        pytest.param(start_uwsgi(LATE), ["E329"], True, id="uwsgi, late"),
        pytest.param(start_uwsgi(), [], False, id="uwsgi, not"),
        pytest.param(start_gunicorn(str), [], False, id="gunicorn"),
        pytest.param(
            start_gunicorn(swap("preload_app = False", "preload_app = True")), ["W407", "E410"], True, id="preload"
        ),
    ],
)
def test_a_patch_that_comes_too_late_loses_the_database(
    shared_redis: RedisServer, database: object, folder: Path, begin: Any, expected: list[str], is_late: bool
) -> None:
    with layouts.running(begin, folder, shared_redis) as layout:
        assert layout.found == expected
        answers = [answer_of(layout) for _ in range(3)]
        assert (answers != [200, 200, 200]) == is_late, layout.output
        refused = "DatabaseWrapper objects created in a thread can only be used in that same thread"
        assert (refused in layout.output) == is_late
