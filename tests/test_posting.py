"""What a page posts beside its event stream: Django's CSRF check as a project has set it up, and what fails behind it.

test_event_streams.py has the statuses over every host.
"""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.test import override_settings

from django_wsredis.conf import get_settings
from django_wsredis.exceptions import NotAuthorized
from django_wsredis.handshake import Granted, decide_post
from django_wsredis.wsgi import get_wsgi_application, get_wsgi_websocket_application

from .event_source import TOKEN
from .test_wsgi import ask

OTHER_TOKEN = "x" * 32
ALLOWED = {"ALLOWED_CHANNELS": "tests.project.callbacks.everything"}


def posted(**changes: str) -> dict[str, Any]:
    """Return the environ of a page's POST, with the token as Django's defaults want it."""
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/ws/news",
        "QUERY_STRING": "publish-broadcast",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "5",
        "HTTP_HOST": "testserver",
        "HTTP_COOKIE": f"csrftoken={TOKEN}",
        "HTTP_X_CSRFTOKEN": TOKEN,
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(b"hello"),
        **changes,
    }


def decided(wsredis: dict[str, Any] | None = None, **changes: str) -> Granted:
    with override_settings(WSREDIS={**ALLOWED, **(wsredis or {})}):
        return decide_post(posted(**changes), get_settings())


def test_the_token_of_the_cookie_in_the_header_is_enough_without_djangos_middleware() -> None:
    assert [str(channel) for channel in decided().publish] == ["everybody on news"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"HTTP_X_CSRFTOKEN": OTHER_TOKEN}, "incorrect"),
        ({"HTTP_X_CSRFTOKEN": ""}, "missing|incorrect"),
        ({"HTTP_X_CSRFTOKEN": "short"}, "length"),
        ({"HTTP_COOKIE": ""}, "cookie not set"),
        ({"HTTP_ORIGIN": "https://evil.net"}, "Origin"),
        ({"wsgi.url_scheme": "https"}, "no Referer"),
    ],
)
def test_what_django_refuses_is_refused_and_the_log_has_its_reason(changes: dict[str, str], reason: str) -> None:
    with pytest.raises(NotAuthorized if "HTTP_ORIGIN" not in changes else Exception, match=reason):
        decided(**changes)


def test_a_process_request_of_the_project_does_not_stand_in_for_the_token() -> None:
    by_token = {"PROCESS_REQUEST": "tests.project.callbacks.by_token"}
    query = "publish-broadcast&token=alice"
    assert decided(by_token, QUERY_STRING=query).publish
    with pytest.raises(NotAuthorized, match="CSRF"):
        decided(by_token, QUERY_STRING=query, HTTP_X_CSRFTOKEN=OTHER_TOKEN)


@override_settings(CSRF_COOKIE_NAME="mine", CSRF_HEADER_NAME="HTTP_X_MINE")
def test_djangos_settings_of_names_count() -> None:
    assert decided(HTTP_COOKIE=f"mine={TOKEN}", HTTP_X_MINE=TOKEN)
    with pytest.raises(NotAuthorized, match="CSRF"):
        decided()


@override_settings(CSRF_USE_SESSIONS=True)
def test_a_token_that_is_in_the_session_is_found_there() -> None:
    session = SessionStore()
    session["_csrftoken"] = TOKEN
    session.save()
    cookie = f"sessionid={session.session_key}"
    assert decided(HTTP_COOKIE=cookie)
    with pytest.raises(NotAuthorized, match="CSRF"):
        decided(HTTP_COOKIE=cookie, HTTP_X_CSRFTOKEN=OTHER_TOKEN)
    with pytest.raises(NotAuthorized, match="CSRF"):  # who has no session has no token
        decided()


@override_settings(CSRF_USE_SESSIONS=True)
def test_without_sessions_there_can_be_no_token_in_them() -> None:
    with pytest.raises(NotAuthorized, match="CSRF token cannot be checked"):
        decided({"PROCESS_REQUEST": "tests.project.callbacks.by_token"})


@override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"))
def test_behind_a_proxy_that_speaks_tls_the_origin_is_https_where_the_project_says_so() -> None:
    assert decided(HTTP_ORIGIN="https://testserver", HTTP_X_FORWARDED_PROTO="https")
    with pytest.raises(NotAuthorized, match="CSRF"):
        decided(HTTP_ORIGIN="https://testserver")


def test_while_redis_is_away_a_page_is_told_so() -> None:
    with override_settings(WSREDIS={**ALLOWED, "URL": "unix:///nonexistent/redis.sock"}):
        environ = posted(HTTP_HOST="127.0.0.1")
        status, headers = ask(get_wsgi_application(), environ.pop("PATH_INFO"), **environ)
    assert status == "503 Service Unavailable"
    assert headers["Retry-After"] == "5"


@pytest.mark.parametrize(
    ("length", "status"), [("", "411"), ("-1", "411"), ("5x", "411"), ("9" * 5000, "413"), ("6", "400"), ("5", "503")]
)
def test_a_length_is_looked_at_before_the_body(length: str, status: str) -> None:
    with override_settings(WSREDIS={**ALLOWED, "URL": "unix:///nonexistent/redis.sock"}):
        environ = posted(HTTP_HOST="127.0.0.1", CONTENT_LENGTH=length)
        assert ask(get_wsgi_application(), environ.pop("PATH_INFO"), **environ)[0].startswith(status)


def test_a_body_that_cannot_be_read_is_malformed() -> None:
    class Gone(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("error during read on wsgi.input")  # as uWSGI says it

    environ = {**posted(HTTP_HOST="127.0.0.1"), "wsgi.input": Gone()}
    assert ask(get_wsgi_application(), environ.pop("PATH_INFO"), **environ)[0] == "400 Bad Request"


def test_a_post_outside_of_websocket_url_is_the_pages() -> None:
    environ = posted(HTTP_HOST="127.0.0.1", CONTENT_TYPE="text/html")
    del environ["PATH_INFO"]
    assert ask(get_wsgi_websocket_application(), "/", **environ)[0] == "404 Not Found"
    assert ask(get_wsgi_application(), "/", **environ)[0] == "200 OK"
