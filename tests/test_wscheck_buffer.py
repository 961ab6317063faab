"""W325: the cookies of a site, the headers of a browser, and what a real uWSGI does with both."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.middleware.csrf import get_token
from django.test import RequestFactory, override_settings

from django_wsredis.checks import cookies, uwsgi
from django_wsredis.checks.uwsgi import buffer
from django_wsredis.checks.uwsgi.reading import Option, OptionList

from . import layouts
from .layouts import Layout, find_uwsgi
from .looking import FACILITY, Change, drop, emit, ids, look, swap
from .nginx_site import for_nobody, running
from .servers import Process, RedisServer, free_port, missing, wait_until

MIDDLEWARE = "django.contrib.sessions.middleware.SessionMiddleware"
CSRF = "django.middleware.csrf.CsrfViewMiddleware"
LOCALE = "django.middleware.locale.LocaleMiddleware"
APPS = ["django_wsredis", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
WITH_MESSAGES = [*APPS, "django.contrib.messages"]
SIGNED = "django.contrib.sessions.backends.signed_cookies"
STORAGES = "django.contrib.messages.storage"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"MIDDLEWARE": []}, {}),
        ({"MIDDLEWARE": [MIDDLEWARE]}, {"sessionid": 42}),
        ({"MIDDLEWARE": [MIDDLEWARE], "SESSION_COOKIE_NAME": "s"}, {"s": 34}),
        ({"MIDDLEWARE": [MIDDLEWARE], "SESSION_ENGINE": SIGNED}, {"sessionid": 4097}),
        ({"MIDDLEWARE": [CSRF]}, {"csrftoken": 42}),
        ({"MIDDLEWARE": [CSRF], "CSRF_USE_SESSIONS": True}, {}),
        ({"MIDDLEWARE": [LOCALE], "LANGUAGES": [("en", "E"), ("pt-br", "P")]}, {"django_language": 21}),
        ({"MIDDLEWARE": [], "INSTALLED_APPS": WITH_MESSAGES}, {"messages": 2057}),
        (
            {
                "MIDDLEWARE": [],
                "INSTALLED_APPS": WITH_MESSAGES,
                "MESSAGE_STORAGE": f"{STORAGES}.session.SessionStorage",
            },
            {},
        ),
        (
            {"MIDDLEWARE": [], "INSTALLED_APPS": WITH_MESSAGES, "MESSAGE_STORAGE": f"{STORAGES}.cookie.CookieStorage"},
            {"messages": 2057},
        ),
    ],
)
def test_the_cookies_of_a_site(settings: dict[str, Any], expected: dict[str, int]) -> None:
    with override_settings(**settings):
        assert cookies.largest() == expected


def test_a_csrf_cookie_is_as_large_as_django_makes_it() -> None:
    request = RequestFactory().get("/")
    get_token(request)
    with override_settings(MIDDLEWARE=[CSRF]):
        assert cookies.largest() == {"csrftoken": len("csrftoken=") + len(request.META["CSRF_COOKIE"])}


def row(size: int | None = None) -> Any:
    return buffer.row(OptionList([] if size is None else [Option("buffer-size", str(size), "x.ini:3")]))


def test_the_sum_is_said_and_judged() -> None:
    with override_settings(MIDDLEWARE=[MIDDLEWARE, CSRF]):
        needed = buffer.HANDSHAKE_BYTES + 42 + 2 + 42
        summed = f"headers {buffer.HANDSHAKE_BYTES}, sessionid 42, csrftoken 42"
        found = row()
        assert found.found == f"4096 bytes, by default; a handshake of this site may have {needed}: {summed}"
        assert found.problems == ()
        assert row(needed).problems == ()
        (problem,) = row(needed - 1).problems
        assert (problem.id, problem.place, problem.hint) == ("wsredis.W325", "x.ini:3", "buffer-size = 32768")
        assert f"buffer-size is {needed - 1} bytes, and a handshake of this site may have {needed}" in problem.text
        assert summed in problem.text
    with override_settings(MIDDLEWARE=[MIDDLEWARE], SESSION_ENGINE=SIGNED):
        (problem,) = row().problems
        assert "buffer-size is 4096 bytes, by default, and" in problem.text
        assert row(32768).problems == ()


def test_a_site_whose_cookies_are_not_known_is_not_judged() -> None:
    with override_settings(MIDDLEWARE=[MIDDLEWARE], SESSION_ENGINE="nowhere.sessions"):
        found = row()
        assert found.is_skipped
        assert "the cookies of this site are not known: No module named 'nowhere'" in found.found


# A real uWSGI


def answer(layout: Layout, cookie: str) -> int:
    """Return the status that a browser with a session in its cookie gets; 0 if none comes."""
    try:
        with layout.raw(FACILITY, {"Origin": layout.origin, "Cookie": f"sessionid={cookie}"}) as raw:
            return raw.answer.status
    except (AssertionError, OSError, ValueError):
        return 0


@pytest.mark.parametrize("options", [[], ["--router"]], ids=["", "router"])
@pytest.mark.parametrize(
    ("change", "expected", "status"),
    [
        (drop("buffer-size"), ["W325"], 0),
        (swap("buffer-size = .*", "buffer-size = 4097"), ["W325"], 0),
        (str, [], 101),
    ],
    ids=["default", "small", "as printed"],
)
def test_a_real_uwsgi_drops_a_handshake_whose_cookies_do_not_fit(
    shared_redis: RedisServer,
    database: object,
    folder: Path,
    options: list[str],
    change: Change,
    expected: list[str],
    status: int,
) -> None:
    def begin(layout: Layout) -> None:
        layout.settings["SESSION_ENGINE"] = SIGNED
        listen = ["--listen", f"127.0.0.1:{layout.port}", "--workers", "1"]
        (ini,) = layout.emit("uwsgi", *listen, *options)
        ini.write_text(change(ini.read_text()))
        layout.found = ids(look(uwsgi, ini, layout.settings))
        layout.run_site(find_uwsgi(), "--ini", ini)

    with layouts.running(begin, folder, shared_redis) as layout:
        assert layout.found == expected
        assert answer(layout, "x" * 100) == 101
        assert answer(layout, "x" * (cookies.MOST_BYTES - len("sessionid"))) == status


# A real browser


PAGE = "<script>new WebSocket(`ws://${location.host}/ws/news?subscribe-broadcast`, 'wsredis.v1')</script>"


class Upstream:
    """What NGiNX passes requests to by uwsgi's protocol: it gives the page, and remembers handshakes."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"uwsgi://127.0.0.1:{self.listener.getsockname()[1]}"
        self.seen: list[bytes] = []
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            sock, _ = self.listener.accept()
            with sock, sock.makefile("rb") as file:
                if len(head := file.read(4)) < 4:  # stop()
                    return
                _, size, _ = struct.unpack("<BHB", head)
                block = file.read(size)
                if b"HTTP_SEC_WEBSOCKET_KEY" in block:
                    self.seen.append(block)
                sock.sendall(
                    f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(PAGE)}\r\n\r\n{PAGE}".encode()
                )

    def stop(self) -> None:
        socket.create_connection(self.listener.getsockname()).close()
        self.thread.join()
        self.listener.close()


@contextmanager
def chromium(url: str) -> Iterator[Process]:
    """Open a page, and end the browser with all its processes."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory(prefix="wsr-chromium-", ignore_cleanup_errors=True) as profile:
        process = Process(
            [
                program or missing("no chromium on PATH"),
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
                *("--disable-background-networking", "--no-proxy-server", "--remote-debugging-port=0"),
                *(f"--user-data-dir={profile}", url),
            ],
            start_new_session=True,
        )
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.stop()


def test_the_headers_of_a_browser_are_no_larger_than_is_counted(folder: Path) -> None:
    for_nobody(folder)
    upstream, port = Upstream(), free_port()
    try:
        (site,) = emit("nginx", folder, "--listen", f"127.0.0.1:{port}", "--upstream", upstream.address)
        layouts.nginx(folder, site)
        with running(folder / "nginx.conf", port), chromium(f"http://127.0.0.1:{port}/"):
            wait_until(lambda: upstream.seen, 30, "a handshake of the browser")
    finally:
        upstream.stop()
    block = upstream.seen[0]
    assert b"HTTP_COOKIE" not in block
    assert buffer.HANDSHAKE_BYTES / 2 < len(block) <= buffer.HANDSHAKE_BYTES
