"""The URLs of websocket views, and what wscheck says of their URLconf."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.template import Context, Template
from django.test import RequestFactory, override_settings
from django.urls import NoReverseMatch, path, reverse, set_script_prefix

from django_wsredis.checks import check_settings, views
from django_wsredis.checks.findings import Problem
from django_wsredis.checks.situation import Situation
from django_wsredis.exceptions import Misconfigured
from django_wsredis.routes import find, views_and_pages
from django_wsredis.views import WebSocketView, websocket, websocket_url

from .project.sockets import Idle

SOCKETS = "tests.project.sockets"


@pytest.fixture
def sockets() -> Iterator[None]:
    with override_settings(WEBSOCKET_URLCONF=SOCKETS):
        yield


def urlconf(*patterns: Any) -> ModuleType:
    module: Any = ModuleType("tests_sockets")
    module.urlpatterns = list(patterns)
    return module


def request(**options: Any) -> HttpRequest:
    return RequestFactory().get("/", **options)


def test_the_url_of_a_view_is_absolute(sockets: None) -> None:
    assert websocket_url(request(), "tell", "lobby") == "ws://testserver/ws/view/tell/lobby/"
    assert websocket_url(request(secure=True), "tell", room="a b") == "wss://testserver/ws/view/tell/a%20b/"


def test_the_url_of_a_view_has_the_host_that_is_set(sockets: None) -> None:
    with override_settings(WEBSOCKET_HOST="sockets.example.com:8001"):
        assert websocket_url(request(), "tell", "x") == "ws://sockets.example.com:8001/ws/view/tell/x/"


def test_the_url_of_a_view_has_the_script_name(sockets: None) -> None:
    set_script_prefix("/site/")
    try:
        assert websocket_url(request(), "tell", "x") == "ws://testserver/site/ws/view/tell/x/"
    finally:
        set_script_prefix("/")


def test_the_url_of_a_view_follows_websocket_url(sockets: None) -> None:
    with override_settings(WEBSOCKET_URL="/sockets/"):
        assert websocket_url(request(), "tell", "x") == "ws://testserver/sockets/view/tell/x/"
        assert find("/sockets/view/echo/") is not None
        assert find("/ws/view/echo/") is None


@pytest.mark.parametrize(
    "tag", ["{% websocket_url 'tell' 'x' %}", "{% websocket_url 'tell' room='x' as url %}{{ url }}"]
)
def test_templates_have_it_as_a_tag(sockets: None, tag: str) -> None:
    template = Template("{% load websockets %}" + tag)
    assert template.render(Context({"request": request()})) == "ws://testserver/ws/view/tell/x/"


def test_the_tag_needs_the_request(sockets: None) -> None:
    with pytest.raises(ImproperlyConfigured, match="needs the request"):
        Template("{% load websockets %}{% websocket_url 'tell' 'x' %}").render(Context())


def test_a_page_is_no_view(sockets: None) -> None:
    with pytest.raises(NoReverseMatch):
        websocket_url(request(), "hello")


def test_without_a_urlconf_there_are_no_views() -> None:
    assert find("/ws/view/echo/") is None
    with pytest.raises(ImproperlyConfigured, match="WEBSOCKET_URLCONF is not set"):
        websocket_url(request(), "tell", "x")


def test_what_pages_and_views_both_name_is_the_views_where_both_are_known() -> None:
    hello = path("hi/", websocket(lambda request, websocket: None), name="hello")
    with override_settings(WEBSOCKET_URLCONF=urlconf(hello)):
        assert reverse("hello", urlconf=views_and_pages()) == "/ws/hi/"
        assert reverse("hello") == "/"


def test_a_view_cannot_be_async() -> None:
    async def view(request: HttpRequest, websocket: Any) -> None: ...

    with pytest.raises(TypeError, match="view is async"):
        websocket(view)

    class View(WebSocketView):
        async def on_message(self, message: str | bytes) -> None: ...  # type: ignore[override]

    with pytest.raises(TypeError, match=r"View.on_message\(\) is async"):
        View.as_view()


def test_a_class_is_no_function() -> None:
    with pytest.raises(TypeError, match="Idle is a class: derive it from WebSocketView"):
        websocket(Idle)


# wscheck


def problems(**settings: Any) -> list[Problem]:
    with override_settings(**settings):
        return [problem for row in views.look(Situation()) for problem in row.problems]


def test_e030_a_urlconf_that_cannot_be_used() -> None:
    (problem,) = problems(WEBSOCKET_URLCONF="tests.nowhere")
    assert problem.id == "wsredis.E030"
    assert "'tests.nowhere'" in problem.text
    with override_settings(WEBSOCKET_URLCONF="tests.nowhere"):
        assert [found.id for found in check_settings(None)] == ["wsredis.E030"]  # of `manage.py check`, too
    with override_settings(WEBSOCKET_URLCONF="tests.nowhere"), pytest.raises(Misconfigured):
        find("/ws/view/echo/")
    module: Any = sys.modules[__name__]  # it has no urlpatterns
    assert [problem.id for problem in problems(WEBSOCKET_URLCONF=module)] == ["wsredis.E030"]
    assert problems(WEBSOCKET_URLCONF=None) == []


def test_w031_a_page_among_the_views() -> None:
    def page(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    echo = path("echo/", websocket(lambda request, websocket: None))
    (problem,) = problems(WEBSOCKET_URLCONF=urlconf(path("page/<name>/", page), echo))
    assert problem.id == "wsredis.W031"
    assert problem.text.startswith("/ws/page/<name>/ leads to tests.test_routes.")
    assert problems(WEBSOCKET_URLCONF=urlconf(echo)) == []
    (problem,) = problems(WEBSOCKET_URLCONF=urlconf(path("idle/", Idle)))
    assert problem.hint == "Write Idle.as_view() there."


@pytest.mark.parametrize("host", ["sockets.example.com", "10.0.0.1:8001", "[::1]:8001", "", "localhost"])
def test_a_host_is_sound(host: str) -> None:
    assert problems(WEBSOCKET_HOST=host) == []


@pytest.mark.parametrize("host", ["wss://sockets.example.com", "sockets.example.com/ws/", "a b", 8001])
def test_e032_what_is_no_host(host: Any) -> None:
    (problem,) = problems(WEBSOCKET_HOST=host)
    assert problem.id == "wsredis.E032"
    assert repr(host) in problem.text
