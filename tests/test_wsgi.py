"""The WSGI applications on a host that cannot give up a socket."""

from __future__ import annotations

import http.client
import types
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from wsgiref.util import setup_testing_defaults

import pytest
from websockets.exceptions import InvalidStatus

from django_wsredis import loop
from django_wsredis.hosts import detach
from django_wsredis.wsgi import get_wsgi_application, get_wsgi_websocket_application, log_once

from .conftest import DATABASE
from .hosted import OPTIONS, HostedSite
from .servers import RedisServer, Site, wait_until

UPGRADE = {
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
}


def ask(application: Any, path: str, **changes: str) -> tuple[str, dict[str, str]]:
    """Return the status and headers of an answer."""
    environ: dict[str, Any] = {"PATH_INFO": path, "HTTP_HOST": "127.0.0.1", "SERVER_SOFTWARE": "waitress", **changes}
    setup_testing_defaults(environ)
    environ["SERVER_PROTOCOL"] = "HTTP/1.1"
    answers: list[tuple[str, dict[str, str]]] = []
    response = application(environ, lambda status, headers, *_: answers.append((status, dict(headers))))
    list(response)
    if hasattr(response, "close"):
        response.close()
    (answer,) = answers
    return answer


def test_one_application_answers_for_pages_and_websockets() -> None:
    application = get_wsgi_application()
    assert ask(application, "/")[0] == "200 OK"
    assert ask(application, "/ws/news")[0] == "426 Upgrade Required"


def test_the_one_for_websockets_alone_has_no_pages() -> None:
    application = get_wsgi_websocket_application()
    assert ask(application, "/")[0] == "404 Not Found"
    assert ask(application, "/ws/news")[0] == "426 Upgrade Required"


def test_a_host_that_cannot_give_up_a_socket_is_told_once_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    log_once.cache_clear()
    application = get_wsgi_application()
    for _ in range(2):
        status, headers = ask(application, "/ws/news", QUERY_STRING="subscribe-broadcast", **UPGRADE)
        assert status == "503 Service Unavailable"
        assert "Retry-After" in headers
    assert caplog.text.count("waitress is not known to give up its sockets") == 1
    assert "docs/deploy.rst" in caplog.text


# Readiness


def read(url: str, method: str = "GET", **headers: str) -> tuple[int, str, Any]:
    """Return the status, the text and the headers of an answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.request(method, "/ws/-/readyz", headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers
    finally:
        connection.close()


def start_host(host: str, url: str, start_site: Callable[..., Site]) -> Site:
    if host in OPTIONS:
        return HostedSite(host, types.SimpleNamespace(url=url), DATABASE, {"WSREDIS": {"PING_INTERVAL": 1}})
    return start_site(host, redis_url=url, settings={"WSREDIS": {"PING_INTERVAL": 1}})


@pytest.mark.parametrize("host", ["runwsserver", "runserver", *OPTIONS])
def test_a_worker_tells_whether_it_delivers(host: str, own_redis: RedisServer, start_site: Callable[..., Site]) -> None:
    site = start_host(host, own_redis.url, start_site)
    try:
        status, text, headers = read(site.url)  # the first thing that it is asked: there is no loop before
        assert (status, text) == (200, "ready\n")
        assert headers["Content-Type"].startswith("text/plain")
        assert headers["Cache-Control"] == "no-store"
        assert read(site.url, "HEAD")[:2] == (200, "")
        own_redis.kill()
        wait_until(lambda: read(site.url)[0] == 503, 20, "its noticing that Redis is away")
        status, text, headers = read(site.url)
        assert (status, text) == (503, "not ready\n")
        assert headers["Retry-After"] == "5"
        own_redis.start()
        wait_until(lambda: read(site.url)[0] == 200, 30, "its coming back")
    finally:
        site.stop()
    assert "Traceback" not in site.output


def test_readiness_is_read_and_nothing_else(configured: RedisServer, start_site: Callable[..., Site]) -> None:
    site = start_site("runwsserver", redis_url=configured.url)
    status, text, headers = read(site.url, "POST")
    assert (status, text, headers["Allow"]) == (405, "405 Method Not Allowed\n", "GET, HEAD")
    with pytest.raises(InvalidStatus) as refused, site.connect("-/readyz?subscribe-broadcast"):
        pass
    assert refused.value.response.status_code == 404
    assert "-/readyz is no facility" in site.output


def test_a_loop_that_has_ended_is_not_ready(configured: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_loops", {})
    monkeypatch.setattr(detach, "find", lambda environ: None)  # as on a host that can
    application = get_wsgi_application()
    try:
        assert ask(application, "/ws/-/readyz")[0] == "200 OK"
    finally:
        loop.stop()
    assert ask(application, "/ws/-/readyz")[0] == "503 Service Unavailable"


def test_a_host_that_cannot_give_up_a_socket_is_never_ready_and_needs_no_loop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log_once.cache_clear()
    monkeypatch.setattr(loop, "_loops", {})
    application = get_wsgi_application()
    for _ in range(2):
        status, headers = ask(application, "/ws/-/readyz")
        assert (status, headers["Retry-After"]) == ("503 Service Unavailable", "5")
    assert ask(application, "/ws/-/readyz", REQUEST_METHOD="POST")[0] == "405 Method Not Allowed"
    assert loop._loops == {}
    assert caplog.text.count("waitress is not known to give up its sockets") == 1
