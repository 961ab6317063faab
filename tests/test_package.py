"""The package as a whole: what importing it needs, what it offers, and which file may import which."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import django_wsredis

from .servers import ROOT

PACKAGE = ROOT / "django_wsredis"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))

# module or folder → floor; a file imports only from floors below, or from its own. The longest name that fits counts.
FLOORS = {
    "management": 7,
    "testing": 7,
    "apps": 6,
    "server": 6,
    "supervisor": 6,
    "worker": 6,
    "listening": 6,
    "pidfile": 6,
    "systemd": 6,
    "wsgi": 5,
    "operators": 5,
    "posting": 5,
    "metrics": 5,
    "checks": 5,
    "configurations": 5,
    "context_processors": 5,
    "templatetags": 5,
    "following": 5,
    "loop": 4,
    "live": 4,
    "views": 4,
    "news": 4,
    "workers": 4,
    "asking": 3,
    "publisher": 4,
    "reader": 4,
    "inspection": 4,
    "handshake": 3,
    "authentication": 3,
    "project_code": 3,
    "origin": 3,
    "peer": 3,
    "redis": 3,
    "redis_errors": 3,
    "cluster": 3,
    "embedded": 3,
    "recipients": 3,
    "routes": 3,
    "sessions": 3,
    "transactions": 3,
    "visitor": 3,
    "channels": 2,
    "commands": 2,
    "control": 2,
    "introduction": 2,
    "messages": 2,
    "upgrade": 2,
    "conf": 2,
    "events": 2,
    "packing": 2,
    "subprotocol": 2,
    "redis_url": 2,
    "rules": 2,
    "hosts": 2,
    "exceptions": 1,
    "log": 1,
    "responses": 1,
    "tally": 1,
    "wording": 1,
}

# third parties → the only places that import them
ALLOWED = {
    "gevent": ("loop", "hosts", "server"),
    "greenlet": ("loop", "hosts", "server"),
    "_socket": ("loop", "hosts", "server"),
    "uwsgi": ("hosts/uwsgi",),
    "uwsgidecorators": (),
    "redis": ("redis", "redis_errors", "cluster", "embedded"),
    "hiredis": ("loop",),
    "rich": ("management",),
    "prometheus_client": ("metrics",),
    "crossplane": ("checks/nginx",),
    "asyncio": ("checks/live", "testing"),  # a process, or a thread, without gevent
    "pytest": ("testing/fixtures",),
    "select": (),
    "selectors": ("supervisor",),  # a process without gevent
}


def place(path: Path) -> str:
    """Return a file's place in the package, as it is written above: "loop/hub", "loop" for its __init__."""
    return path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield the absolute names that a file imports, as parts; not those for the type checker alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = (*above, *(node.module or "").split(".")) if node.module else above
            for alias in node.names:
                yield (*base, alias.name)


def floor_of(where: str) -> int:
    return FLOORS[where.split("/")[0]]


def own_imports(path: Path) -> Iterator[str]:
    """Yield the places in the package from which a file imports."""
    for name in imports(path):
        if name[0] != "django_wsredis" or len(name) == 1:
            continue
        inside = Path(*name[1:])
        candidates = [inside, inside.parent]  # a module, or what is in one
        for candidate in candidates:
            if (PACKAGE / candidate).with_suffix(".py").exists() or (PACKAGE / candidate / "__init__.py").exists():
                if candidate != Path("."):
                    yield candidate.as_posix()
                break


def test_every_module_has_a_floor() -> None:
    unknown = [place(path) for path in MODULES if place(path) != "__init__" and place(path).split("/")[0] not in FLOORS]
    assert unknown == []


@pytest.mark.parametrize("path", [path for path in MODULES if path != PACKAGE / "__init__.py"], ids=place)
def test_a_module_imports_only_from_its_own_floor_and_below(path: Path) -> None:
    above = [where for where in own_imports(path) if floor_of(where) > floor_of(place(path))]
    assert above == []


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_third_parties_are_imported_only_where_they_belong(path: Path) -> None:
    where = place(path)
    wrong = [
        name[0]
        for name in imports(path)
        if name[0] in ALLOWED and not any(where == place or where.startswith(f"{place}/") for place in ALLOWED[name[0]])
    ]
    assert wrong == []


def test_the_reader_of_imports_sees_them() -> None:
    assert {"messages", "loop/connection"} <= set(own_imports(PACKAGE / "loop/hub.py"))
    assert {"embedded", "loop", "redis_errors", "conf"} <= set(
        own_imports(PACKAGE / "management/commands/runwsserver.py")
    )
    assert ("gevent",) in set(imports(PACKAGE / "loop/__init__.py"))
    assert ("gevent", "pywsgi", "WSGIServer") in set(imports(PACKAGE / "hosts/pywsgi.py"))


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_nothing_is_monkey_patched_and_uwsgis_websockets_and_select_are_not_used(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)}
    forbidden = ("monkey", "patch_all", "uwsgi.websocket_", "select.select", "select.poll")
    asking = {"monkey", "monkey.is_module_patched", "monkey.get_original"}  # whether the project has patched
    assert [name for name in names - asking if any(word in name for word in forbidden)] == []


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process without any settings, where gevent and uwsgi cannot be imported."""
    blocked = "import sys\nfor name in ('gevent', 'greenlet', 'uwsgi'):\n    sys.modules[name] = None\n"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", blocked + code],
        env={"PATH": "/nowhere", "HOME": "/nowhere"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_importing_the_package_needs_no_settings_no_gevent_and_opens_nothing() -> None:
    done = run_python(
        "import os\n"
        "before = os.listdir('/proc/self/fd')\n"
        "import django_wsredis\n"
        "assert os.listdir('/proc/self/fd') == before\n"
        "from django.conf import settings\n"
        "assert not settings.configured\n"
        "print(django_wsredis.__version__, 'redis' in sys.modules)\n"
    )
    assert (done.stdout, done.stderr) == (f"{django_wsredis.__version__} False\n", "")


def test_the_public_names_can_be_imported_without_settings_and_gevent() -> None:
    done = run_python(
        "import os\n"
        "before = os.listdir('/proc/self/fd')\n"
        "from django_wsredis import *\n"
        "assert os.listdir('/proc/self/fd') == before\n"
        "from django.conf import settings\n"
        "assert not settings.configured\n"
        "print(*(f.__name__ for f in (publish, Publisher, cursor, history, BrokerUnavailable)), SELF, EVERYWHERE)\n"
    )
    assert (done.stdout, done.stderr) == ("publish Publisher cursor history BrokerUnavailable SELF EVERYWHERE\n", "")


@pytest.mark.parametrize(
    "module",
    [
        "channels",
        "subprotocol",
        "messages",
        "commands",
        "upgrade",
        "conf",
        "redis",
        "embedded",
        "publisher",
        "reader",
        "inspection",
        "handshake",
        "context_processors",
        "wsgi",
        "operators",
    ],
)
def test_the_floors_below_the_loop_need_no_settings_and_no_gevent(module: str) -> None:
    done = run_python(f"import django_wsredis.{module}\nprint('imported')")
    assert (done.stdout, done.stderr) == ("imported\n", "")


def test_the_public_names_exist_and_are_documented() -> None:
    assert set(django_wsredis.__all__) == {
        "EVERYWHERE",
        "SELF",
        "BrokerUnavailable",
        "Publisher",
        "connections",
        "count",
        "cursor",
        "disconnect",
        "fetch_message",
        "history",
        "is_online",
        "publish",
    }
    for name in django_wsredis.__all__:
        assert getattr(django_wsredis, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        django_wsredis.nonsense  # noqa: B018


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_a_module_says_what_its_job_is(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not tree.body or ast.get_docstring(tree)


def test_what_the_package_needs_at_run_time_is_in_it() -> None:
    for name in (
        "publish.lua",
        "inspect.lua",
        "read.lua",
        "py.typed",
        "static/django_wsredis/wsredis.js",
        "configurations/nginx.conf.template",
    ):
        assert (PACKAGE / name).is_file(), name
