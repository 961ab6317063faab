"""A real browser whose network fails: wsredis.js gets from the real server what it missed, each once and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.test import override_settings

from django_wsredis import publish

from .faults.proxy import Proxy
from .servers import RedisServer, Site
from .test_browser import (  # noqa: F401  some are fixtures
    LOADERS,
    Browser,
    SampleSite,
    browser,
    environment,
    new_browser,
    running,
)

HISTORY = {facility: {"messages": 500, "seconds": 86400} for facility in ("chat", "team")}  # as the sample site's
GAP = "Some messages may be missing here."

LISTEN = """
    window.seen = [];
    window.socket = new WSRedis(arguments[0], { retryBase: 100, retryCap: 200 });
    for (const type of ["open", "message", "subscribed", "gap", "refused"]) {
        socket.addEventListener(type, ({ channel, facility, data, id, status }) => {
            seen.push({ type, channel, facility, data, id, status });
        });
    }
"""


@pytest.fixture(scope="module")
def proxy(running: SampleSite) -> Iterator[Proxy]:  # noqa: F811
    """The network between the browser and the sample site."""
    proxy = Proxy(running.port)
    yield proxy
    proxy.stop()


@pytest.fixture
def url(proxy: Proxy, redis_server: RedisServer) -> Iterator[str]:
    """The sample site behind the proxy, without any message of the tests before; this process publishes to it."""
    with override_settings(WSREDIS={"URL": redis_server.url, "HISTORY": HISTORY}):
        yield f"http://127.0.0.1:{proxy.port}"


@pytest.fixture
def page(url: str, browser: Browser) -> Browser:  # noqa: F811
    """A page of the sample site's origin, into which wsredis.js is loaded, and which opens no socket itself."""
    browser.open(f"{url}/login/")
    browser.run(LOADERS["classic script"])
    browser.wait_for("typeof window.loaded === 'function'")
    return browser


def say(*texts: str, facility: str = "chat") -> None:
    for text in texts:
        publish(text, facility=facility, broadcast=True)


def numbers(first: int, last: int) -> list[str]:
    return [f"message {number}" for number in range(first, last + 1)]


def data(page: Browser) -> list[str]:
    return page.run("return seen.filter(({ type }) => type === 'message').map(({ data }) => data)")


@pytest.fixture
def away(proxy: Proxy) -> Iterator[Callable[[], None]]:
    """Cut the network, and let nobody come back until `proxy.accept()`, at the latest after the test."""

    def away() -> None:
        proxy.refuse()
        proxy.cut()

    yield away
    proxy.refuse()
    proxy.accept()


def test_two_windows_get_what_they_missed_once_and_in_order(
    url: str,
    proxy: Proxy,
    away: Callable[[], None],
    browser: Browser,  # noqa: F811
) -> None:
    first = browser.chrome.current_window_handle
    browser.chrome.switch_to.new_window("window")
    second = browser.chrome.current_window_handle
    windows = {first: 1, second: 3}  # → the number of the first message that came after it was opened
    try:
        for handle, number in windows.items():
            browser.chrome.switch_to.window(handle)
            browser.open_live(f"{url}/chat/")
            say(*numbers(number, number + 1))
            browser.wait_for_message(f"message {number + 1}")
        for round in range(1, 3):
            away()
            for handle in windows:
                browser.chrome.switch_to.window(handle)
                browser.wait_for_state("connecting")
            say(*numbers(20 * round - 15, 20 * round))
            proxy.accept()
            for handle in windows:
                browser.chrome.switch_to.window(handle)
                browser.run("window.dispatchEvent(new Event('online'))")
                browser.wait_for_state("live")
            say(*numbers(20 * round + 1, 20 * round + 4))
        for handle in windows:
            browser.chrome.switch_to.window(handle)
            browser.wait_for_message("message 44")
            assert browser.messages() == numbers(1, 44)[::-1]
    finally:
        browser.chrome.switch_to.window(second)
        browser.chrome.close()
        browser.chrome.switch_to.window(first)


def test_what_the_page_shows_when_it_is_opened_is_not_sent_again(url: str, browser: Browser) -> None:  # noqa: F811
    say(*numbers(1, 3))
    browser.open_live(f"{url}/chat/")
    say("live")
    browser.wait_for_message("live")
    assert browser.messages() == ["live", *numbers(1, 3)[::-1]]
    times = browser.run("return [...document.querySelectorAll('#messages li')].map((item) => item.dataset.time)")
    assert all(":" in time for time in times)


def test_a_page_that_was_there_before_redis_lost_its_data_says_that_something_may_be_missing(
    url: str,
    proxy: Proxy,
    away: Callable[[], None],
    redis_server: RedisServer,
    browser: Browser,  # noqa: F811
) -> None:
    browser.open_live(f"{url}/chat/")
    say("before")
    browser.wait_for_message("before")
    away()
    browser.wait_for_state("connecting")
    say("lost")
    with redis_server.client() as client:
        client.flushall()
    say("after")
    proxy.accept()
    browser.wait_for_message("after")
    say("and on")
    browser.wait_for_message("and on")
    assert browser.messages() == ["and on", "after", GAP, "before"]


def test_a_new_socket_goes_on_from_the_cursor_of_another(page: Browser) -> None:
    page.run(LISTEN, "/ws/chat?subscribe-broadcast")
    page.wait_for("seen.some(({ type }) => type === 'subscribed')")
    say("seen")
    page.wait_for("seen.some(({ data }) => data === 'seen')")
    cursor = page.run("socket.close(); return socket.cursor")
    say(*numbers(1, 5))
    assert cursor.startswith("broadcast:chat=")
    page.run(LISTEN, f"/ws/chat?subscribe-broadcast&history=50&since={quote(cursor)}")
    page.wait_for("seen.some(({ type }) => type === 'subscribed')")
    assert data(page) == numbers(1, 5)
    page.run("socket.close()")


def test_a_further_facility_on_the_same_socket_comes_back_too_until_it_is_left(
    page: Browser, proxy: Proxy, away: Callable[[], None]
) -> None:
    page.run(LISTEN, "/ws/chat?subscribe-broadcast")
    page.run("socket.subscribe('team', 'subscribe-broadcast')")
    page.wait_for("seen.filter(({ type }) => type === 'subscribed').length === 2")
    say("chat 1")
    say("team 1", facility="team")
    page.wait_for("seen.filter(({ type }) => type === 'message').length === 2")
    away()
    page.wait_for("socket.state === 'waiting'")
    say("team 2", "team 3", facility="team")
    say("chat 2")
    proxy.accept()
    page.wait_for("seen.filter(({ type }) => type === 'subscribed').length === 4")
    seen = page.run("return seen.filter(({ type }) => type === 'message')")
    for facility, texts in {"chat": ["chat 1", "chat 2"], "team": ["team 1", "team 2", "team 3"]}.items():
        found = [event for event in seen if event["facility"] == facility]
        assert [event["data"] for event in found] == texts
        assert {event["channel"] for event in found} == {f"broadcast:{facility}"}
    page.run("socket.unsubscribe('team'); socket.subscribe('news', 'subscribe-broadcast')")
    page.wait_for("seen.at(-1).facility === 'news'")  # so the server has read both
    say("team 4", facility="team")
    say("chat 3")
    page.wait_for("seen.at(-1).data === 'chat 3'")
    assert "team 4" not in data(page)
    page.run("socket.close()")


def test_a_facility_that_is_refused_leaves_the_socket_open(page: Browser) -> None:
    page.run(LISTEN, "/ws/chat?subscribe-broadcast")
    page.run("socket.subscribe('chat/2', 'publish-user')")  # who is not logged in has none
    page.wait_for("seen.some(({ type }) => type === 'refused')")
    refused = page.run("return seen.find(({ type }) => type === 'refused')")
    assert (refused["facility"], refused["status"]) == ("chat/2", 403)
    assert page.run("return socket.state") == "open"
    page.run("socket.close()")


def test_a_page_with_the_tag_gets_exactly_what_was_published_since_it_was_rendered(
    start_site: Callable[..., Site],
    redis_server: RedisServer,
    browser: Browser,  # noqa: F811
    alice: str,
) -> None:
    facility = "kept/ä,=&1"  # the tag quotes it twice: in the channel's name, and that in the URL
    wsredis = {"HISTORY": {"kept/*": {"messages": 50, "seconds": 3600}}}
    site = start_site(
        "runwsserver", "--noreload", redis_url=redis_server.url, settings={"DEBUG": True, "WSREDIS": wsredis}
    )
    channels: dict[str, dict[str, Any]] = {  # that of alice holds nothing yet when the page is rendered
        f"broadcast:{quote(facility)}": {"broadcast": True},
        f"user:alice:{quote(facility)}": {"users": ["alice"]},
    }
    with override_settings(WSREDIS={"URL": redis_server.url, **wsredis}):
        say("before", facility=facility)
        browser.open(f"{site.url}/")
        browser.chrome.add_cookie({"name": "sessionid", "value": alice})
        try:
            browser.open(f"{site.url}/cursor/{quote(facility)}")
            for text in numbers(1, 2):
                for audience in channels.values():
                    publish(text, facility=facility, **audience)
            browser.run("connect()")
            browser.wait_for("window.isLive")
            for audience in channels.values():
                publish("message 3", facility=facility, **audience)
            browser.wait_for("Object.values(seen).filter((texts) => texts.includes('message 3')).length === 2")
            assert browser.run("return seen") == dict.fromkeys(channels, numbers(1, 3))
        finally:
            browser.chrome.delete_all_cookies()
