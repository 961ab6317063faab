from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_FOLDER = tempfile.TemporaryDirectory(prefix="wsr-")  # short: a unix socket's path has a limit
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.project.settings"
os.environ["TEST_DATABASE"] = os.path.join(_FOLDER.name, "db.sqlite3")

import django

django.setup()

from django.contrib.auth.models import Group, User
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django.test import override_settings

from django_wsredis.checks import processes

from .servers import Listener, RedisServer, Site, children, find_redis

pytest_plugins = ["django_wsredis.testing.fixtures"]  # whether or not the package is installed

DATABASE = Path(os.environ["TEST_DATABASE"])
FAULTS = "faults"  # a property of a trial's report: what its verifier found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let `pytest -n` run those together that share a server: each host's, each layout's, each module's."""
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        shared = parameters.get("host") or parameters.get("layout")
        name = getattr(shared, "__name__", shared) or ""
        item.add_marker(pytest.mark.xdist_group(f"{item.path.name} {name}"))


@pytest.fixture(scope="session", autouse=True)
def own_processes() -> Iterator[None]:
    """wscheck sees the servers that this process has started, and not those of tests that run beside it."""
    look = processes.running

    def running(name: str) -> Iterator[processes.Running]:
        own = set(children(os.getpid()))
        return (process for process in look(name) if process.pid in own)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "running", running)
        yield


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what was found in each trial of tests/faults, whose own conftest `pytest -n` loads in its workers alone."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    lines = [value for report in reports for name, value in report.user_properties if name == FAULTS]
    if lines:
        terminalreporter.section(FAULTS)
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def database() -> Iterator[Path]:
    """A database in a file, as several processes use it: alice is in staff, bob in chatters."""
    call_command("migrate", verbosity=0)
    for name, group in (("alice", "staff"), ("bob", "chatters")):
        user = User.objects.create_user(name, password="demo")
        user.groups.add(Group.objects.create(name=group))
    yield DATABASE
    from django.db import connections

    connections.close_all()
    _FOLDER.cleanup()


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a short path."""
    with tempfile.TemporaryDirectory(prefix="wsr-") as path:
        yield Path(path)


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="wsr-") as path:
        server = RedisServer(Path(path), find_redis())
        yield server
        server.stop()


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """An empty Redis, in this process's settings too. A test that kills it uses `own_redis`."""
    with shared_redis.client() as client:
        client.flushall()
    return shared_redis


@pytest.fixture
def own_redis(folder: Path) -> Iterator[RedisServer]:
    """A Redis for one test, which may kill it and start it again."""
    server = RedisServer(folder, find_redis())
    yield server
    server.stop()


@pytest.fixture
def configured(redis_server: RedisServer) -> Iterator[RedisServer]:
    """This process's own settings name the Redis: for `publish()` in the test itself."""
    with override_settings(WSREDIS={"URL": redis_server.url}):
        yield redis_server


@pytest.fixture
def listener(configured: RedisServer) -> Iterator[Listener]:
    with configured.client() as client:
        listener = Listener(client)
        yield listener
        listener.close()


@pytest.fixture
def start_site(database: Path) -> Iterator[Callable[..., Site]]:
    """Start servers that end with the test."""
    sites: list[Site] = []

    def start(command: str, *arguments: str, redis_url: str, **options: Any) -> Site:
        site = Site(command, *arguments, database=database, redis_url=redis_url, **options)
        sites.append(site)
        return site

    yield start
    for site in sites:
        site.stop()


@pytest.fixture
def start(
    request: pytest.FixtureRequest, configured: RedisServer, start_site: Callable[..., Site]
) -> Callable[..., Site]:
    """Start servers with the command that the test's module names as SERVER."""

    def start(*arguments: str, redis_url: str = configured.url, **options: Any) -> Site:
        return start_site(request.module.SERVER, *arguments, redis_url=redis_url, **options)

    return start


def login(username: str, engine: Any = SessionStore) -> str:
    """Return the cookie of a new session in which a user is logged in."""
    user = User.objects.get(username=username)
    session = engine()
    session["_auth_user_id"] = str(user.pk)
    session["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
    session["_auth_user_hash"] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


@pytest.fixture
def alice() -> str:
    return login("alice")


@pytest.fixture
def bob() -> str:
    return login("bob")
