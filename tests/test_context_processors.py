"""What a page's template gets."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from django.template import engines
from django.test import RequestFactory, override_settings

from django_wsredis.context_processors import default


@pytest.mark.parametrize(
    ("is_secure", "host", "script_name", "websocket_url", "uri"),
    [
        (False, "testserver", "", "/ws/", "ws://testserver/ws/"),
        (True, "testserver", "", "/ws/", "wss://testserver/ws/"),
        (False, "localhost:8000", "", "/ws/", "ws://localhost:8000/ws/"),
        (False, "testserver", "/site", "/ws/", "ws://testserver/site/ws/"),
        (False, "testserver", "/site/", "/ws/", "ws://testserver/site/ws/"),
        (False, "testserver", "", "/", "ws://testserver/"),
        (True, "testserver", "/a", "/sockets/", "wss://testserver/a/sockets/"),
    ],
)
def test_the_uri_is_where_the_page_came_from(
    is_secure: bool, host: str, script_name: str, websocket_url: str, uri: str
) -> None:
    request = RequestFactory().get("/", secure=is_secure, headers={"host": host}, SCRIPT_NAME=script_name)
    with override_settings(WEBSOCKET_URL=websocket_url):
        assert default(request)["WEBSOCKET_URI"] == uri


def test_behind_a_proxy_that_ends_tls_the_uri_is_wss_if_the_project_trusts_its_header() -> None:
    request = RequestFactory().get("/", headers={"x-forwarded-proto": "https", "x-forwarded-host": "testserver"})
    with override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"), USE_X_FORWARDED_HOST=True):
        assert default(request)["WEBSOCKET_URI"] == "wss://testserver/ws/"


@pytest.mark.parametrize(
    "heartbeat",
    [
        None,
        "--heartbeat--",
        'a "quoted" \\ text',
        "é ✓",
        "a\nb",
        "\u2028",
        "</script><script>alert(1)</script>",
        "<!--",
        "&amp;",
        "'",
    ],
)
def test_the_heartbeat_is_a_javascript_value_that_cannot_end_its_script(heartbeat: str | None) -> None:
    with override_settings(WSREDIS={"HEARTBEAT": heartbeat}):
        given = default(RequestFactory().get("/"))
    assert json.loads(given["WSREDIS_HEARTBEAT"]) == heartbeat
    assert given["WS4REDIS_HEARTBEAT"] == given["WSREDIS_HEARTBEAT"]
    assert not set("<>&\n\u2028") & set(given["WSREDIS_HEARTBEAT"])


class Scripts(HTMLParser):
    """The contents of a page's script elements, and the names of all its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.names: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.append(tag)

    def handle_data(self, data: str) -> None:
        self.scripts.append(data)


def test_a_template_renders_it_without_escaping_it_again() -> None:
    heartbeat = '</script><img src=x> "beat" &'
    page = "<script>{{ WSREDIS_HEARTBEAT }}</script>"
    with override_settings(WSREDIS={"HEARTBEAT": heartbeat}):
        rendered = engines["django"].from_string(page).render({}, RequestFactory().get("/"))
    parsed = Scripts(rendered)
    assert parsed.names == ["script"]
    assert [json.loads(script) for script in parsed.scripts] == [heartbeat]
