"""The WSGI applications on a host that cannot give up a socket."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from django_wsredis import loop
from django_wsredis.exceptions import DecisionOutdated
from django_wsredis.hosts import detach
from django_wsredis.wsgi import get_wsgi_application, get_wsgi_websocket_application, log_once

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


@pytest.mark.parametrize(("outdated", "status"), [(0, "101"), (1, "101"), (2, "101"), (3, "503")])
def test_a_handshake_whose_decision_is_outdated_is_decided_again(
    outdated: int, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[object] = []

    def serve(accepted: object, _: object) -> None:
        served.append(accepted)
        if len(served) <= outdated:
            raise DecisionOutdated("the groups changed meanwhile")

    monkeypatch.setattr(loop, "get_loop", lambda: SimpleNamespace(serve=serve))
    monkeypatch.setattr(detach, "find", lambda environ: None)  # as on a host that can
    answer = ask(get_wsgi_application(), "/ws/news", QUERY_STRING="subscribe-broadcast", **UPGRADE)[0]
    assert answer.split()[0] == status
    assert len(served) == len(set(map(id, served))) == min(outdated + 1, 3)
