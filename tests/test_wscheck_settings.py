"""`wscheck --only settings`: what is wrong with the site, and with a site that is open to the world.

tests/test_checks.py has those of `WSREDIS` itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.contrib.sessions.middleware import SessionMiddleware
from django.core import checks
from django.core.exceptions import PermissionDenied
from django.core.signals import request_finished, request_started
from django.db.backends.signals import connection_created
from django.db.models.signals import m2m_changed, post_save
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.urls import clear_script_prefix, include, path, re_path, set_script_prefix
from django.utils.decorators import async_only_middleware
from websockets.frames import Opcode
from websockets.sync.client import connect

from django_wsredis import following, publish
from django_wsredis.checks import check_deployment, check_settings, permissions
from django_wsredis.checks.areas import MODULES
from django_wsredis.checks.findings import Problem, Row
from django_wsredis.checks.situation import Situation
from django_wsredis.exceptions import OriginNotAllowed
from django_wsredis.origin import check_origin

from .rawsocket import RawSocket
from .servers import ROOT, Site

SERVER = "runwsserver"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"


def rows(**settings: Any) -> list[Row]:
    with override_settings(**settings):
        return [row for module in MODULES["settings"][1:] for row in module.look(Situation())]


def problems(**settings: Any) -> list[Problem]:
    return [problem for row in rows(**settings) for problem in row.problems]


def row_of(checked: str, **settings: Any) -> Row:
    (row,) = (row for row in rows(**settings) if row.checked == checked)
    return row


def only(**settings: Any) -> Problem:
    (problem,) = problems(**settings)
    return problem


def test_the_tests_own_site_is_sound() -> None:
    assert problems() == []


def test_what_needs_no_deployment_is_a_system_check_and_the_rest_is_one_for_deployments() -> None:
    with override_settings(WSREDIS={"PING_INTERVAL": 70}, SESSION_COOKIE_SAMESITE="None"):
        assert [message.id for message in check_settings(None)] == ["wsredis.W007"]
        assert [message.id for message in check_deployment(None)] == ["wsredis.E011"]
        deployed = [message.id for message in checks.run_checks(include_deployment_checks=True)]
        assert {"wsredis.W007", "wsredis.E011"} <= set(deployed)
        assert "wsredis.E011" not in [message.id for message in checks.run_checks()]


def test_wrong_settings_are_told_of_elsewhere() -> None:
    found = rows(WSREDIS={"PING_INTERVAL": "x"})
    skipped = ["settings together", "URLs, pings", "websocket views", "who may publish", "who may subscribe"]
    assert [row.checked for row in found if row.is_skipped] == skipped


# The site


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("a page")


def urlconf(*patterns: Any) -> type:
    return type("Urls", (), {"urlpatterns": list(patterns)})


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (path("ws/", page), "/ws/"),
        (path("ws/rooms/<name>/", page), "/ws/rooms/"),
        (re_path(r"^ws/rooms/(\w+)/$", page), "/ws/rooms/"),
        (path("ws/", include([path("help/", page)])), "/ws/help/"),
        (path("", include([path("ws/<name>", page)])), "/ws/"),
    ],
)
def test_w005_a_page_below_websocket_url(pattern: Any, said: str) -> None:
    problem = only(ROOT_URLCONF=urlconf(path("", page), pattern))
    assert problem.id == "wsredis.W005"
    assert problem.text.startswith(f"The URL pattern {said} is below WEBSOCKET_URL /ws/")
    assert problem.hint.startswith('WEBSOCKET_URL = "/sockets/"')


@pytest.mark.parametrize(
    "pattern",
    [
        path("wsx/", page),
        path("about/ws/", page),
        path("<path:anything>", page),
        re_path(r"^.*$", page),
        re_path(r"^(?:ws|pages)/$", page),
        path("<language>/", include([path("ws/", page)])),
    ],
)
def test_pages_that_are_not_below_it(pattern: Any) -> None:
    assert problems(ROOT_URLCONF=urlconf(pattern)) == []


def test_a_urlconf_that_cannot_be_used_is_djangos_business() -> None:
    (row,) = (row for row in rows(ROOT_URLCONF="tests.nowhere") if row.checked == "URL patterns")
    assert row.verdict == "not checked"


@pytest.mark.parametrize("name", ["STATIC_URL", "MEDIA_URL"])
@pytest.mark.parametrize(("url", "websocket_url"), [("/ws/static/", "/ws/"), ("/live/", "/live/ws/"), ("/ws/", "/ws/")])
def test_e006_files_and_websockets_below_each_other(name: str, url: str, websocket_url: str) -> None:
    problem = only(**{name: url}, WEBSOCKET_URL=websocket_url)
    assert problem.id == "wsredis.E006"
    assert f"{name} is {url}" in problem.text
    assert f'{name} = "/{name[:-4].lower()}/"' in problem.hint


@pytest.mark.parametrize("url", ["/static/", "https://cdn.example.com/ws/", "/wsstatic/", "", None])
def test_files_elsewhere(url: Any) -> None:
    assert problems(MEDIA_URL="/media/", STATIC_URL=url) == []


@pytest.mark.parametrize(
    ("script_name", "url", "websocket_url", "ids"),
    [
        ("/site/", "", "/site/ws/", ["wsredis.W020"]),
        ("/ws/", "", "/ws/", []),
        ("/site/", "/site/static/", "/ws/", []),
        ("/site/", "ws/static/", "/ws/", ["wsredis.E006"]),
        ("/site/", "/ws/static/", "/ws/", ["wsredis.E006"]),
        ("/site/", "/site/ws/static/", "/ws/", ["wsredis.E006"]),
    ],
)
def test_files_below_a_script_name(script_name: str, url: str, websocket_url: str, ids: list[str]) -> None:
    set_script_prefix(script_name)
    try:
        found = problems(FORCE_SCRIPT_NAME=script_name, MEDIA_URL=url, STATIC_URL=None, WEBSOCKET_URL=websocket_url)
    finally:
        clear_script_prefix()
    assert [problem.id for problem in found] == ids


@pytest.mark.parametrize(("interval", "ids"), [(20, []), (49, []), (50, ["wsredis.W007"]), (300, ["wsredis.W007"])])
def test_w007_pings_that_come_too_late(interval: float, ids: list[str]) -> None:
    found = problems(WSREDIS={"PING_INTERVAL": interval})
    assert [problem.id for problem in found] == ids
    assert all(f"is {interval} s" in problem.text for problem in found)
    assert all(problem.hint.startswith('WSREDIS = {"PING_INTERVAL": 20, …}') for problem in found)


@pytest.mark.parametrize("missing", [SESSIONS, AUTHENTICATION])
def test_w008_a_middleware_that_logs_in(missing: str) -> None:
    problem = only(MIDDLEWARE=[name for name in (SESSIONS, AUTHENTICATION) if name != missing])
    assert problem.id == "wsredis.W008"
    assert f"MIDDLEWARE lacks {missing}:" in problem.text
    assert repr(missing) in problem.hint


class OwnSessions(SessionMiddleware):
    """A project's own."""


def test_a_middleware_that_is_derived_from_it_will_do() -> None:
    assert problems(MIDDLEWARE=["tests.test_wscheck_settings.OwnSessions", AUTHENTICATION]) == []


@pytest.fixture
def raising(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raises.py").write_text("raise RuntimeError('no')")
    (tmp_path / "exits.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("name", ["raises.it", "exits.it"])
def test_an_application_that_raises_ends_no_check(raising: None, name: str) -> None:
    assert problems(WSGI_APPLICATION=name) == []


@pytest.mark.parametrize(
    ("name", "why", "hint"),
    [
        (
            "corsheaders.middleware.CorsMiddleware",
            "No module named 'corsheaders'",
            "Install what has the module corsheaders",
        ),
        ("tests.nowhere.Middleware", "No module named 'tests.nowhere'", "Correct it, or remove it"),
        ("tests.project.callbacks.Misspelt", 'does not define a "Misspelt"', "Correct it, or remove it"),
        ("raises.it", "no", "Correct it, or remove it"),
        ("exits.it", "SystemExit", "Correct it, or remove it"),
    ],
)
def test_e022_a_middleware_that_cannot_be_imported(raising: None, name: str, why: str, hint: str) -> None:
    problem = only(MIDDLEWARE=[SESSIONS, AUTHENTICATION, name])
    assert problem.id == "wsredis.E022"
    assert f"MIDDLEWARE has {name!r}, which cannot be imported:" in problem.text
    assert why in problem.text
    assert problem.hint.startswith(hint)
    assert name in problem.hint


def test_e022_an_engine_of_sessions_that_cannot_be_imported() -> None:
    given = {"SESSION_ENGINE": "tests.nowhere", "MIDDLEWARE": [SESSIONS, AUTHENTICATION]}
    problem = only(**given)
    assert problem.id == "wsredis.E022"
    assert problem.text.startswith("SESSION_ENGINE is 'tests.nowhere', which cannot be used: No module named")
    with override_settings(**given):
        following.follow()  # as when the apps are made ready: no command would start
    following.follow()


def test_with_it_a_server_does_not_start(start: Callable[..., Site]) -> None:
    given = {"MIDDLEWARE": ["tests.nowhere.Middleware"], "SILENCED_SYSTEM_CHECKS": ["wsredis.E022"]}
    with pytest.raises(pytest.fail.Exception, match=r"could not be loaded; Error importing module"):
        start(settings=given)


@async_only_middleware
def asynchronous(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    async def middleware(request: HttpRequest) -> Any:
        return await get_response(request)

    return middleware


def test_w009_a_middleware_for_asyncio_alone() -> None:
    problem = only(MIDDLEWARE=[SESSIONS, AUTHENTICATION, "tests.test_wscheck_settings.asynchronous"])
    assert problem.id == "wsredis.W009"
    assert "tests.test_wscheck_settings.asynchronous" in problem.text
    assert "sync_capable = True" in problem.hint


async def receive(**given: Any) -> None:
    """A receiver that is async."""


class Receivers:
    async def receive(self, **given: Any) -> None:
        """A receiver that is async, too."""


RECEIVERS = Receivers()


@pytest.mark.parametrize(
    ("name", "signal"),
    [
        ("user_logged_in", user_logged_in),
        ("user_logged_out", user_logged_out),
        ("m2m_changed", m2m_changed),
        ("post_save", post_save),
        ("request_started", request_started),
        ("request_finished", request_finished),
        ("connection_created", connection_created),
    ],
)
@pytest.mark.parametrize("receiver", [receive, RECEIVERS.receive])
@pytest.mark.parametrize("weak", [True, False])
def test_w023_a_receiver_that_is_async(name: str, signal: Signal, receiver: Any, weak: bool) -> None:
    assert row_of("receivers of signals").found == "none is async"  # ours are there
    signal.connect(receiver, weak=weak, sender=Receivers if name == "m2m_changed" else None)
    try:
        problem = only()
    finally:
        signal.disconnect(receiver, sender=Receivers if name == "m2m_changed" else None)
    assert problem.id == "wsredis.W023"
    assert problem.text.startswith(f"The receiver {__name__}.{receiver.__qualname__} of {name} is async: ")
    assert "def receive(…)" in problem.hint


def test_it_really_starts_a_loop_that_all_greenlets_take_for_theirs() -> None:
    """And so Django refuses the database to another one, which runs at that moment."""
    code = (
        "from gevent import monkey; monkey.patch_all()\n"
        "import asyncio, gevent, django; django.setup()\n"
        "from django.core.signals import request_started\n"
        "from django.contrib.auth.models import User\n"
        "async def slow(**given): await asyncio.sleep(1)\n"
        "IF_ASYNC request_started.connect(slow)\n"
        "first = gevent.spawn(request_started.send, None)\n"
        "gevent.sleep(0.2)\n"
        "try: print('others get', gevent.spawn(User.objects.count).get() >= 0)\n"
        "except Exception as error: print('others get', type(error).__name__)\n"
    )
    for condition, got in (("if 1:", "SynchronousOnlyOperation"), ("if 0:", "True")):
        done = subprocess.run(
            [sys.executable, "-c", code.replace("IF_ASYNC", condition)],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.stdout == f"others get {got}\n", done.stderr


# Settings together

MIB = 1024 * 1024
KEEP, LESS = {"messages": 9, "seconds": 60}, {"messages": 2, "seconds": 60}
EVERYBODY = "tests.test_wscheck_settings.members_only"


@pytest.mark.parametrize(
    ("wsredis", "said", "hint"),
    [
        (
            {"ALLOWED_CHANNELS": EVERYBODY, "MAX_OUTBOX_BYTES": 1000, "MAX_MESSAGE_BYTES": 1001},
            "MAX_OUTBOX_BYTES is 1,000, and MAX_MESSAGE_BYTES 1,001",
            '"MAX_OUTBOX_BYTES": 4004',
        ),
        ({"HEARTBEAT": "♥" * 9, "MAX_MESSAGE_BYTES": 26}, "HEARTBEAT has 27 bytes", '"HEARTBEAT": "--heartbeat--"'),
        ({"SESSION_RECHECK": 30, "PROCESS_REQUEST": page}, "SESSION_RECHECK is 30", "Remove"),
        ({"EXPIRE": 60, "HISTORY": {"chat": LESS, "*": KEEP}}, "EXPIRE is 60, and HISTORY has '*'", 'Remove "EXPIRE"'),
        ({"HISTORY": {"*": KEEP, "chat": LESS}}, "HISTORY has '*' before 'chat'", "write 'chat' before '*'"),
        ({"HISTORY": {"chat*": KEEP, "chat/?/*": LESS}}, "HISTORY has 'chat*' before 'chat/?/*'", "write 'chat/?/*'"),
        ({"SLOW": {"log*": "drop", "log/x": "latest"}}, "SLOW has 'log*' before 'log/x'", "write 'log/x' before"),
    ],
)  # fmt: skip
def test_w021_settings_that_do_not_fit_together(wsredis: dict[str, Any], said: str, hint: str) -> None:
    problem = only(WSREDIS=wsredis)
    assert problem.id == "wsredis.W021"
    assert problem.text.startswith(said)
    assert hint in problem.hint


@pytest.mark.parametrize(
    "wsredis",
    [
        {"MAX_OUTBOX_BYTES": 1000},  # no browser publishes
        {"ALLOWED_CHANNELS": EVERYBODY, "MAX_OUTBOX_BYTES": 1000, "MAX_MESSAGE_BYTES": 1000},
        {"HEARTBEAT": "♥" * 9, "MAX_MESSAGE_BYTES": 27},
        {"PROCESS_REQUEST": "tests.test_wscheck_settings.page"},
        {"SESSION_RECHECK": 0, "PROCESS_REQUEST": "tests.test_wscheck_settings.page"},
        {"EXPIRE": 60, "HISTORY": {"chat*": KEEP}},
        {"HISTORY": {"chat": LESS, "*": KEEP}},
        {"HISTORY": {"chat*": KEEP, "chat/x": KEEP}},
        {"HISTORY": {"chat?": KEEP, "chat*": LESS}},
        {"HISTORY": {"*b]": KEEP, "[ab]": LESS}},
        {"HISTORY": {"chat*": KEEP, "*": LESS}},
        {"SLOW": {"log/x": "drop", "log*": "latest"}},
    ],
)
def test_settings_that_fit_together(wsredis: dict[str, Any]) -> None:
    assert problems(WSREDIS=wsredis) == []
    assert row_of("settings together", WSREDIS=wsredis).found == "they fit"


@pytest.mark.parametrize("outbox_mib", [1, 32])
def test_a_message_that_is_larger_than_the_outbox_really_closes_who_is_slow(
    start: Callable[..., Site], outbox_mib: int
) -> None:
    site = start(settings={"WSREDIS": {"MAX_OUTBOX_BYTES": outbox_mib * MIB, "PING_TIMEOUT": 60}})
    with RawSocket(site.port) as slow:
        publish("x" * 20 * MIB, facility="news", broadcast=True)  # more than the kernel takes
        publish("y", facility="news", broadcast=True)
        if outbox_mib == 1:
            site.wait_for(r"closed \(1013\)")
        frames = (frame for frame in iter(slow.frame, None) if frame.opcode is not Opcode.PING)
        sizes = [len(frame.data) for frame in islice(frames, 2)]
    assert sizes[0] == 20 * MIB
    assert (sizes[1] > 1) == (outbox_mib == 1)  # the frame that closes it has a code and a reason


@pytest.mark.parametrize(
    ("script_name", "websocket_url", "said"),
    [
        ("site", "/ws/", "WEBSOCKET_URI is ws://HOSTsite/ws/"),
        ("/site", "/site/ws/", "pages connect to /site/site/ws/"),
        ("/site/", "/site/ws/", "pages connect to /site/site/ws/"),
    ],
)
def test_w020_a_script_name_that_does_not_fit(script_name: str, websocket_url: str, said: str) -> None:
    problem = only(FORCE_SCRIPT_NAME=script_name, WEBSOCKET_URL=websocket_url)
    assert problem.id == "wsredis.W020"
    assert said in problem.text


@pytest.mark.parametrize(
    ("script_name", "websocket_url"),
    [(None, "/ws/"), ("", "/ws/"), ("/", "/ws/"), ("/site", "/ws/"), ("/ws", "/ws/"), ("/site", "/sites/ws/")],
)
def test_a_script_name_that_fits(script_name: str | None, websocket_url: str) -> None:
    assert problems(FORCE_SCRIPT_NAME=script_name, WEBSOCKET_URL=websocket_url) == []


@pytest.mark.parametrize(
    ("settings", "uri"),
    [
        ({"FORCE_SCRIPT_NAME": "/site"}, "/site/ws/"),
        ({"FORCE_SCRIPT_NAME": "site"}, "site/ws/"),
        ({"FORCE_SCRIPT_NAME": "/site", "WEBSOCKET_URL": "/site/ws/"}, "/site/site/ws/"),
    ],
)
def test_a_real_page_connects_to_that(start: Callable[..., Site], settings: dict[str, str], uri: str) -> None:
    """And a websocket is taken where the proxy has taken the prefix off."""
    running = start(settings=settings)
    status, text = running.get("cursor/news")
    assert status == 200
    assert f"`ws://127.0.0.1:{running.port}{uri}news?" in text
    path = settings.get("WEBSOCKET_URL", "/ws/")
    with connect(f"ws://127.0.0.1:{running.port}{path}news?subscribe-broadcast", proxy=None):
        pass


# A deployment


def wscheck_of(folder: Path, application: str) -> list[dict[str, Any]]:
    """Return the rows of the settings, of a project whose wsgi.py begins with something, from a process of its own."""
    (folder / "patched_wsgi.py").write_text(f"{application}\nfrom tests.project.wsgi import application\n")
    # in another thread the project is asked, which would not come back in a process that is patched late
    callback = "tests.test_wscheck_settings.by_session"
    given = {"WSGI_APPLICATION": "patched_wsgi.application", "WSREDIS": {"ALLOWED_CHANNELS": callback}}
    done = subprocess.run(
        [sys.executable, "tests/project/manage.py", "wscheck", "--only", "settings", "--json"],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", "TEST_SETTINGS": json.dumps(given)},
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["areas"][0]["rows"]
    return rows


@pytest.mark.parametrize(
    ("application", "told", "ids"),
    [
        ("", "nothing, as it should be", []),
        ("import gevent", "nothing, as it should be", []),
        ("from gevent import monkey; monkey.patch_all()", "socket, ssl, select, threading", []),
        ("from gevent import monkey; monkey.patch_socket()", "socket; not ssl, select, threading", ["wsredis.W015"]),
        ("from gevent import monkey; monkey.patch_all(thread=False)", "select; not threading", ["wsredis.W015"]),
    ],
)
def test_w015_a_part_of_python_is_patched(tmp_path: Path, application: str, told: str, ids: list[str]) -> None:
    found = wscheck_of(tmp_path, application)
    (row,) = (row for row in found if row["checked"] == "monkey patching")
    assert row["found"].endswith(told)
    assert [row["checked"] for row in found if row["verdict"] == "not checked"] == []
    assert [problem["id"] for row in found for problem in row["problems"]] == ids


def deny(request: HttpRequest, channels: list[str]) -> list[str]:
    raise PermissionDenied


def members_only(request: HttpRequest, channels: list[str]) -> list[str]:
    return channels if request.user.is_authenticated else [name for name in channels if name.startswith("subscribe-")]


def by_session(request: HttpRequest, channels: list[str]) -> list[str]:
    return channels if request.session.get("may") and request.path == "/ws/rooms" else []


def broken(request: HttpRequest, channels: list[str]) -> list[str]:
    raise KeyError("x")


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (None, "the site alone"),
        (deny, "denies it to who is not logged in"),
        (members_only, "lets nobody who is not logged in"),
        (by_session, "lets nobody who is not logged in"),
    ],
)
def test_publishing_that_is_not_open_to_everybody(function: Any, found: str) -> None:
    row = row_of("who may publish", WSREDIS={"ALLOWED_CHANNELS": function})
    assert row.problems == ()
    assert found in row.found


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (None, "everybody, to all that is for them"),
        (deny, "denies it to who is not logged in"),
        (members_only, "everybody: subscribe-broadcast, subscribe-user, subscribe-group, subscribe-session"),
        (by_session, "lets nobody who is not logged in"),
    ],
)
def test_who_may_subscribe_is_told(function: Any, found: str) -> None:
    row = row_of("who may subscribe", WSREDIS={"ALLOWED_CHANNELS": function})
    assert row.problems == ()
    assert found in row.found


def a_text(request: HttpRequest, channels: list[str]) -> str:
    return "subscribe-broadcast"


def no_names(request: HttpRequest, channels: list[str]) -> list[Any]:
    return ["broadcast", 1, []]


def readers(request: HttpRequest, channels: list[str]) -> list[Any]:
    return ["subscribe-broadcast", "broadcast"]


@pytest.mark.parametrize(
    ("function", "said"), [(a_text, "returns 'subscribe-broadcast',"), (no_names, "returns ['broadcast', 1, []],")]
)
def test_e016_what_is_returned_grants_nothing(function: Any, said: str) -> None:
    problem = only(WSREDIS={"ALLOWED_CHANNELS": function})
    assert problem.id == "wsredis.E016"
    assert said in problem.text
    assert row_of("who may subscribe", WSREDIS={"ALLOWED_CHANNELS": function}).is_skipped


def test_what_is_returned_beside_names_does_not_matter() -> None:
    assert problems(WSREDIS={"ALLOWED_CHANNELS": readers}) == []


def asleep(request: HttpRequest, channels: list[str]) -> list[str]:
    time.sleep(60)
    return []


@pytest.mark.parametrize(("function", "said"), [(broken, "KeyError('x')"), (asleep, "TimeoutError()")])
def test_a_callback_that_fails_or_hangs_is_no_proof(monkeypatch: pytest.MonkeyPatch, function: Any, said: str) -> None:
    monkeypatch.setattr(permissions, "PROJECT_SECONDS", 0.2)
    began = time.monotonic()
    for checked in ("who may publish", "who may subscribe"):
        row = row_of(checked, WSREDIS={"ALLOWED_CHANNELS": function})
        assert row.is_skipped
        assert said in row.found
    assert time.monotonic() - began < 2


def generous(request: HttpRequest, channels: list[str]) -> Iterator[str]:
    yield from reversed(channels)


def test_w010_a_generator_is_read_once() -> None:
    assert "publish-broadcast, publish-user, publish-group" in only(WSREDIS={"ALLOWED_CHANNELS": generous}).text


def test_w010_everybody_may_publish() -> None:
    problem = only(WSREDIS={"ALLOWED_CHANNELS": "tests.project.callbacks.everything"})
    assert problem.id == "wsredis.W010"
    assert "grants publish-broadcast, publish-user, publish-group, publish-session to a visitor" in problem.text


@pytest.mark.parametrize(
    ("same_site", "is_secure", "ids"),
    [
        ("None", False, ["wsredis.E011"]),
        ("None", True, []),
        ("Lax", False, []),
        ("Strict", True, []),
        (False, False, []),
    ],
)
def test_e011_a_cookie_that_browsers_drop(same_site: Any, is_secure: bool, ids: list[str]) -> None:
    found = problems(SESSION_COOKIE_SAMESITE=same_site, SESSION_COOKIE_SECURE=is_secure)
    assert [problem.id for problem in found] == ids


@pytest.mark.parametrize(
    ("origins", "is_https", "ids"),
    [
        (["http://example.com"], True, ["wsredis.W012"]),
        (["http://example.com", "https://example.com"], True, []),
        (["http://example.com"], False, []),
        (["https://example.com"], True, []),
    ],
)
def test_w012_an_origin_without_https(origins: list[str], is_https: bool, ids: list[str]) -> None:
    found = problems(CSRF_TRUSTED_ORIGINS=origins, SECURE_SSL_REDIRECT=is_https, SESSION_COOKIE_SECURE=is_https)
    assert [problem.id for problem in found] == ids
    assert all("'https://example.com'" in problem.hint for problem in found)


HTTPS = {
    "SECURE_SSL_REDIRECT": True,
    "SECURE_HSTS_SECONDS": 3600,
    "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
}


@pytest.mark.parametrize("name", HTTPS)
def test_w017_a_cookie_that_is_not_secure(name: str) -> None:
    problem = only(**{name: HTTPS[name]})
    assert problem.id == "wsredis.W017"
    assert problem.text.startswith(f"{name} is set")
    assert problems(**{name: HTTPS[name]}, SESSION_COOKIE_SECURE=True) == []


@pytest.mark.parametrize(
    ("origin", "domain"),
    [
        ("https://*.com", "com"),
        ("https://*.com:8443", "com"),
        ("https://*.CO.uk", "co.uk"),
        ("https://*.github.io", "github.io"),
    ],
)
def test_w018_sites_of_others(origin: str, domain: str) -> None:
    problem = only(CSRF_TRUSTED_ORIGINS=["https://example.com", origin])
    assert problem.id == "wsredis.W018"
    assert f"{origin!r}: pages of everybody who has a name below {domain} " in problem.text


def test_they_really_may_connect() -> None:
    for trusted, is_trusted in (("https://*.com", True), ("https://*", False), ("https://*.example.com", False)):
        request = RequestFactory().get("/ws/news", headers={"origin": "https://evil.com"})
        with override_settings(CSRF_TRUSTED_ORIGINS=[trusted]), suppress(OriginNotAllowed):
            check_origin(request, required=False)
            assert is_trusted
            continue
        assert not is_trusted


@pytest.mark.parametrize(
    "origin",
    [
        "https://*.example.com",
        "https://me.github.io",
        "https://*.localhost",
        "https://*.internal",
        "https://*",
        "https://[",
    ],
)
def test_sites_of_ones_own(origin: str) -> None:
    assert problems(CSRF_TRUSTED_ORIGINS=[origin]) == []


@pytest.mark.parametrize("same_site", ["Lax", "Strict"])
@pytest.mark.parametrize("origin", ["https://app.partner.org", "https://*.partner.org", "https://example.org:8443"])
def test_w019_another_site_comes_without_the_cookie(origin: str, same_site: str) -> None:
    given = {"ALLOWED_HOSTS": ["www.example.com"], "SESSION_COOKIE_SAMESITE": same_site}
    problem = only(CSRF_TRUSTED_ORIGINS=["https://example.com", origin], **given)
    assert problem.id == "wsredis.W019"
    assert f"has {origin!r}" in problem.text
    assert f"SAMESITE is {same_site!r}" in problem.text
    other = {**given, "SESSION_COOKIE_SAMESITE": "None", "SESSION_COOKIE_SECURE": True}
    assert problems(CSRF_TRUSTED_ORIGINS=[origin], **other) == []


@pytest.mark.parametrize(
    ("hosts", "origin"),
    [
        (["www.example.com"], "https://app.example.com"),
        ([".example.com"], "https://*.example.com"),
        (["shop.co.uk"], "https://other.co.uk"),  # another site, which cannot be told from here
        (["*"], "https://partner.org"),
        (["*", "example.com"], "https://partner.org"),
        (["example.com", "partner.org"], "https://app.partner.org"),
        (["localhost", "127.0.0.1", "[::1]", "backend.internal"], "https://example.com"),
        (["example.com"], "https://192.0.2.1"),
        (["example.com"], "https://localhost:3000"),
    ],
)
def test_what_may_be_the_same_site(hosts: list[str], origin: str) -> None:
    assert problems(CSRF_TRUSTED_ORIGINS=[origin], ALLOWED_HOSTS=hosts) == []


def test_e014_no_host_is_allowed() -> None:
    assert only(ALLOWED_HOSTS=[]).id == "wsredis.E014"
    assert problems(ALLOWED_HOSTS=[], DEBUG=True) == []


@pytest.mark.parametrize("host", ["https://example.com", "example.com:8000", "", "my_site", None, 3])
def test_e014_what_no_host_can_be(host: object) -> None:
    assert only(ALLOWED_HOSTS=[host]).id == "wsredis.E014"
    assert only(ALLOWED_HOSTS=[host], DEBUG=True).id == "wsredis.E014"
    assert problems(ALLOWED_HOSTS=[host, "example.com"]) == []


@pytest.mark.parametrize("host", ["*", ".example.com", "Example.COM", "[::1]", "10.0.0.1"])
def test_what_a_host_can_be(host: str) -> None:
    assert problems(ALLOWED_HOSTS=[host]) == []


def test_w013_the_embedded_redis_in_production() -> None:
    embedded = {"WSREDIS": {"URL": "embedded://"}}
    assert only(**embedded, DEBUG=False).id == "wsredis.W013"
    assert problems(**embedded, DEBUG=True, ALLOWED_HOSTS=[]) == []


@pytest.mark.parametrize(
    ("host", "is_public"),
    [
        ("localhost", False),
        (".localhost", False),
        ("shop.localhost", False),
        ("127.0.0.1", False),
        ("[::1]", False),
        ("testserver", False),
        ("*", False),
        ("example.com", True),
        (".example.com", True),
        ("192.0.2.1", True),
    ],
)
def test_w013_the_embedded_redis_of_a_public_site_with_debug(host: str, is_public: bool) -> None:
    found = problems(WSREDIS={"URL": "embedded://"}, DEBUG=True, ALLOWED_HOSTS=["localhost", host])
    assert [problem.id for problem in found] == ["wsredis.W013"] * is_public
    if is_public:
        assert f"ALLOWED_HOSTS has {host}" in found[0].text
