"""A real browser behind a proxy that lets no websocket through: wsredis.js goes on with an event stream."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from . import layouts
from .servers import Process, RedisServer, free_port, wait_until
from .test_browser import (  # noqa: F401  fixtures
    LISTEN,
    LOADERS,
    Browser,
    SampleSite,
    browser,
    environment,
    new_browser,
    running,
    site,
)

# What a proxy does that nobody told of websockets: it speaks HTTP/1.0 to the site, and drops Upgrade.
PROXY = """
server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{site}; proxy_set_header Host $http_host; }}
}}
"""
TRANSPORT = "socket.transport + ' ' + socket.state"


@contextmanager
def proxied(folder: Path, site_port: int) -> Iterator[str]:
    """Return the URL of a proxy in front of a site."""
    port = free_port()
    config = folder / "site.conf"
    config.write_text(PROXY.format(port=port, site=site_port))
    process = Process(layouts.nginx(folder, config), cwd=folder)
    try:
        wait_until(lambda: listens(port), what="NGiNX listening")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stop()


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def url(site: SampleSite, folder: Path) -> Iterator[str]:  # noqa: F811
    with proxied(folder, site.port) as url:
        yield url


def test_a_page_falls_back_receives_and_sends(site: SampleSite, url: str, browser: Browser) -> None:  # noqa: F811
    browser.chrome.delete_all_cookies()
    browser.open_live(f"{url}/chat/")
    assert browser.run(f"return {TRANSPORT}") == "event-stream open"
    site.manage_py("wsbroadcast", "--facility", "chat", "from the shell")
    browser.wait_for_message("from the shell")
    for text in ("one", "two", "three"):
        browser.write(text)
    browser.wait_for_message("three")  # it asked for its echo
    assert browser.messages() == ["three", "two", "one", "from the shell"]
    # the page remembers, and another object of it tries no websocket
    browser.run("window.other = new WSRedis(socket.url)")
    browser.wait_for("other.state === 'open' && other.transport === 'event-stream'")
    browser.run("other.close()")


def test_nothing_is_lost_when_the_server_restarts(
    environment: dict[str, str],  # noqa: F811
    redis_server: RedisServer,
    folder: Path,
    browser: Browser,  # noqa: F811
) -> None:
    site = SampleSite(environment)  # noqa: F811
    try:
        with proxied(folder, site.port) as url:
            browser.chrome.delete_all_cookies()
            browser.open_live(f"{url}/chat/")
            browser.run("window.gaps = 0; socket.addEventListener('gap', () => { window.gaps += 1; })")
            browser.write("before")
            browser.wait_for_message("before")
            for how in ("stopped", "killed"):
                if how == "killed":
                    site.popen.kill()
                else:
                    site.press_ctrl_c()
                site.popen.wait(10)
                browser.wait_for_state("connecting")
                for number in range(3):
                    site.manage_py("wsbroadcast", "--facility", "chat", f"{how} {number}")
                site.stop()
                site = SampleSite(environment, site.port)
                browser.wait_for_message(f"{how} 2")
                browser.wait_for_state("live")
            browser.write("after")
            browser.wait_for_message("after")
            away = [f"{how} {number}" for how in ("stopped", "killed") for number in range(3)]
            assert browser.messages() == ["after", *reversed(away), "before"]
            assert browser.run(f"return [{TRANSPORT}, window.gaps]") == ["event-stream open", 0]
    finally:
        site.stop()


@pytest.fixture
def page(url: str, browser: Browser) -> Browser:  # noqa: F811
    """A page with a CSRF cookie, into which wsredis.js is loaded."""
    browser.chrome.delete_all_cookies()
    browser.open(f"{url}/login/")
    browser.run(LOADERS["classic script"])
    browser.wait_for("typeof window.loaded === 'function'")
    return browser


def listen(page: Browser, path: str, options: dict[str, Any] | None = None) -> None:
    page.run(LISTEN, path, {"retryBase": 100, **(options or {})})
    page.wait_for(f"{TRANSPORT} === 'event-stream open'")


TALK = "/ws/chat?subscribe-broadcast&publish-broadcast"


def test_texts_and_bytes_arrive_as_they_were_sent(page: Browser) -> None:
    listen(page, TALK)
    page.run(
        r"""
        window.got = [];
        window.other = new WSRedis(arguments[0]);
        other.addEventListener("message", ({ data }) => {
            got.push(typeof data === "string" ? data : [...new Uint8Array(data)]);
        });
    """,
        TALK,
    )
    page.wait_for("other.state === 'open'")
    page.run(r"""
        socket.send("a\rb\r\n\n"); socket.send("\ufeff 😀"); socket.send(""); socket.send({ a: [1, null] });
        socket.send(new Uint8Array([0, 13, 255])); socket.send(new Blob(["blob"])); socket.send("end");
    """)
    page.wait_for("got.at(-1) === 'end'")
    blob = [*b"blob"]
    assert page.run("return got") == ["a\rb\r\n\n", "\ufeff 😀", "", '{"a":[1,null]}', [0, 13, 255], blob, "end"]
    assert page.run("return seen.filter(({ type }) => type === 'message').length") == 0  # without echo

    page.run("socket.close(); other.close()")


def test_further_facilities_are_asked_for_left_and_sent_to(page: Browser, url: str) -> None:
    page.log_in(url, "alice")
    page.open(f"{url}/login/")
    page.run(LOADERS["classic script"])
    page.wait_for("typeof window.loaded === 'function'")
    listen(page, TALK)
    page.run("""
        window.told = [];
        for (const type of ["subscribed", "refused", "message"]) {
            socket.addEventListener(type, (event) => {
                told.push([type, event.facility, event.data ?? event.status]);
            });
        }
        socket.subscribe("room/\u00e4 1", "subscribe-user&publish-user");
        socket.subscribe("-/", "subscribe-broadcast");
    """)
    page.wait_for("told.length === 2")
    assert page.run("return told") == [["subscribed", "room/ä 1", None], ["refused", "-/", 404]]
    page.run("""
        window.other = new WSRedis(arguments[0], { onopen() { this.subscribe("room/\u00e4 1", "subscribe-user"); } });
        other.addEventListener("message", ({ facility, data }) => { told.push(["other", facility, data]); });
        other.addEventListener("subscribed", ({ facility }) => {
            if (facility !== "chat") socket.send("to the room", { facility });
        });
    """, TALK)  # fmt: skip
    page.wait_for("told.at(-1)[0] === 'other'")
    assert page.run("return told.at(-1)") == ["other", "room/ä 1", "to the room"]
    page.run("socket.unsubscribe('room/ä 1'); other.close()")
    page.wait_for("socket._left.length === 0")
    page.run("socket.close()")


def test_without_wsredis_v1_messages_come_plain(page: Browser, site: SampleSite) -> None:  # noqa: F811
    listen(page, TALK + "&echo", {"protocols": [], "heartbeat": "beat", "heartbeatInterval": 50})
    page.run("socket.send('plain'); socket.send(new Uint8Array([1, 2]))")
    page.wait_for("seen.filter(({ type }) => type === 'message').length === 2")
    assert [event["data"] for event in page.run("return seen") if event["type"] == "message"] == ["plain", [1, 2]]
    page.run("socket.close()")


def test_a_page_without_a_csrf_token_is_told_and_stays_closed(page: Browser) -> None:
    page.chrome.delete_all_cookies()
    page.run("document.querySelector('[name=csrfmiddlewaretoken]').remove()")
    listen(page, TALK)
    page.run("socket.send('x')")
    page.wait_for("socket.state === 'closed'")
    closed = page.run("return seen.at(-1)")
    assert (closed["code"], closed["reason"], closed["final"]) == (1003, "a POST got 403", True)


def test_a_stream_that_lives_answers_pings(page: Browser) -> None:
    listen(page, TALK, {"heartbeatInterval": 50, "heartbeatTimeout": 5000})
    page.run("""
        window.heard = 0;
        const received = socket._received.bind(socket);
        socket._received = (data) => { window.heard += data.includes("pong"); received(data); };
    """)
    page.wait_for("window.heard >= 3")  # more than the server's own
    assert page.run(f"return {TRANSPORT}") == "event-stream open"
    page.run("socket.close()")
