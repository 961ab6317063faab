"""A real browser: the sample site as a visitor sees it, and what wsredis.js does when things go wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from .servers import ROOT, Process, RedisServer, missing, wait_until

MANAGE = ROOT / "sample_site/manage.py"
SECONDS = 20.0
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--no-proxy-server",
    "--window-size=1000,800",
]


class SampleSite(Process):
    """The sample site under runwsserver, on a port that it keeps when it is started again."""

    def __init__(self, env: dict[str, str], port: int = 0, *options: str) -> None:
        self.env = env
        command = [sys.executable, "-X", "dev", "-W", "error", str(MANAGE), "runwsserver"]
        super().__init__([*command, f"127.0.0.1:{port}", "--noreload", *options], env=env, cwd=ROOT)
        match = self.wait_for(r"\bat (http://127.0.0.1:(\d+))/")
        self.url = match[1]
        self.port = int(match[2])

    def manage_py(self, *arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, str(MANAGE), *arguments], env=self.env, capture_output=True, text=True, timeout=60
        )
        assert result.returncode == 0, result.stderr
        return result.stdout


class Browser:
    """A Chromium with a profile of its own, and what a person does with it."""

    def __init__(self, chromium: str, driver: str) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="wsr-chromium-", ignore_cleanup_errors=True)
        options = ChromeOptions()
        options.binary_location = chromium
        for argument in [*ARGUMENTS, f"--user-data-dir={self._profile.name}"]:
            options.add_argument(argument)
        self.chrome = Chrome(options=options, service=Service(executable_path=driver))
        self.chrome.set_script_timeout(SECONDS)

    def quit(self) -> None:
        self.chrome.quit()
        self._profile.cleanup()

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        return wait_until(condition, SECONDS, what)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.chrome.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def open(self, url: str) -> None:
        self.chrome.get(url)

    def wait_for_state(self, state: str) -> None:
        self.wait(lambda: self.text("#state") == state, f"the state {state!r}")

    def open_live(self, url: str) -> None:
        """Open a page and wait until its socket is open."""
        self.open(url)
        self.wait_for_state("live")

    def messages(self) -> list[str]:
        """Return what the page has received, the newest first."""
        return self.run("return [...document.querySelectorAll('#messages li')].map((item) => item.textContent)")

    def wait_for_message(self, message: str) -> None:
        self.wait(lambda: message in self.messages(), f"the message {message!r}")

    def write(self, message: str) -> None:
        self.chrome.find_element(By.CSS_SELECTOR, "#text").send_keys(message)
        self.chrome.find_element(By.CSS_SELECTOR, "#send").click()

    def log_in(self, url: str, username: str) -> None:
        self.chrome.delete_all_cookies()
        self.open(f"{url}/login/")
        self.chrome.find_element(By.NAME, "username").send_keys(username)
        self.chrome.find_element(By.NAME, "password").send_keys("demo")
        self.chrome.find_element(By.CSS_SELECTOR, "form.login button").click()
        self.wait(lambda: self.text("#username") == username, f"{username} being logged in")

    def wait_for(self, expression: str) -> Any:
        """Return a JavaScript expression's value once it is true."""
        return self.wait(lambda: self.run(f"return {expression}"), expression)


@pytest.fixture(scope="module")
def new_browser() -> Iterator[Callable[[], Browser]]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        missing("no chromium and chromedriver on PATH")
    browsers: list[Browser] = []

    def new() -> Browser:
        browsers.append(Browser(chromium, driver))
        return browsers[-1]

    yield new
    for browser in browsers:
        browser.quit()


@pytest.fixture(scope="module")
def browser(new_browser: Callable[[], Browser]) -> Browser:
    return new_browser()


@pytest.fixture(scope="module")
def other_browser(new_browser: Callable[[], Browser]) -> Browser:
    """Somebody else's: its cookies are its own."""
    return new_browser()


@pytest.fixture(scope="module")
def environment(shared_redis: RedisServer) -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="wsr-") as folder:
        given = {"SAMPLE_SITE_DB": f"{folder}/db.sqlite3", "WSREDIS_URL": shared_redis.url, "PYTHONUNBUFFERED": "1"}
        env = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"} | given
        subprocess.run([sys.executable, str(MANAGE), "migrate"], env=env, check=True, capture_output=True, timeout=60)
        yield env


@pytest.fixture(scope="module")
def running(environment: dict[str, str]) -> Iterator[SampleSite]:
    site = SampleSite(environment)
    yield site
    assert site.stop() == 0
    assert "Traceback" not in site.output


@pytest.fixture
def site(running: SampleSite, redis_server: RedisServer) -> SampleSite:
    """The sample site, without any message of the tests before."""
    return running


# The sample site


def test_what_one_window_writes_appears_in_the_other(site: SampleSite, browser: Browser) -> None:
    browser.open_live(f"{site.url}/chat/")
    first = browser.chrome.current_window_handle
    browser.chrome.switch_to.new_window("window")
    second = browser.chrome.current_window_handle
    try:
        browser.open_live(f"{site.url}/chat/")
        browser.write("from the <b>second</b>")
        browser.wait_for_message("from the <b>second</b>")  # it asked for its echo
        browser.chrome.switch_to.window(first)
        browser.wait_for_message("from the <b>second</b>")
        browser.write("from the first")
        browser.chrome.switch_to.window(second)
        browser.wait_for_message("from the first")
        assert browser.messages() == ["from the first", "from the <b>second</b>"]
    finally:
        browser.chrome.switch_to.window(second)
        browser.chrome.close()
        browser.chrome.switch_to.window(first)


def test_a_message_from_the_shell_is_counted_and_shown(site: SampleSite, browser: Browser) -> None:
    browser.open_live(f"{site.url}/")
    assert browser.text("#counter") == "0"
    assert "1 socket on 1 worker" in site.manage_py("wsbroadcast", "hello")
    browser.wait_for_message("hello")
    site.manage_py("wsbroadcast", "--facility", "chat", "again")
    browser.wait_for_message("again")
    assert browser.messages() == ["again", "hello"]
    assert browser.text("#counter") == "2"


def test_who_comes_later_sees_the_last_message(site: SampleSite, browser: Browser) -> None:
    site.manage_py("wsbroadcast", "--facility", "chat", "early")
    browser.open_live(f"{site.url}/")
    browser.wait_for_message("early")


def test_a_message_to_a_user_reaches_nobody_else(site: SampleSite, browser: Browser, other_browser: Browser) -> None:
    browser.log_in(site.url, "alice")
    other_browser.log_in(site.url, "bob")
    for window in (browser, other_browser):
        window.open_live(f"{site.url}/chat/user/")

    browser.run("document.querySelector('#recipient').value = 'bob'")
    browser.write("only for bob")
    other_browser.wait_for_message("alice: only for bob")
    browser.wait(lambda: browser.text("#note") == "Sent to bob.", "the view's answer")
    site.manage_py("wsbroadcast", "--user", "alice", "only for alice")
    browser.wait_for_message("only for alice")

    site.manage_py("wsbroadcast", "--user", "alice", "--user", "bob", "for both")
    for window in (browser, other_browser):
        window.wait_for_message("for both")
    assert browser.messages() == ["for both", "only for alice"]
    assert other_browser.messages() == ["for both", "alice: only for bob"]


def test_a_message_to_a_group_reaches_its_members_alone(
    site: SampleSite, browser: Browser, other_browser: Browser
) -> None:
    browser.log_in(site.url, "alice")
    other_browser.log_in(site.url, "bob")
    for window, group in ((browser, "staff"), (other_browser, "chatters")):
        window.open_live(f"{site.url}/chat/group/")
        assert window.text(".group") == group

    browser.write("from staff")
    browser.wait_for_message("from staff")
    other_browser.write("from chatters")
    other_browser.wait_for_message("from chatters")
    site.manage_py("wsbroadcast", "--group", "staff", "to staff")
    browser.wait_for_message("to staff")
    site.manage_py("wsbroadcast", "--group", "staff", "--group", "chatters", "to both")
    for window in (browser, other_browser):
        window.wait_for_message("to both")
    assert browser.messages() == ["to both", "to staff", "from staff"]
    assert other_browser.messages() == ["to both", "from chatters"]


def test_a_visitor_is_asked_to_log_in(site: SampleSite, browser: Browser) -> None:
    browser.chrome.delete_all_cookies()
    for page in ("user", "group"):
        browser.open(f"{site.url}/chat/{page}/")
        browser.wait(lambda: browser.text("h1") == "Log in", "the login page")


NOT_SENT = "Not sent. The connection is down, try again soon."


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_page_comes_back_by_itself_when_the_server_does(
    environment: dict[str, str], redis_server: RedisServer, browser: Browser, how: str
) -> None:
    site = SampleSite(environment)
    try:
        browser.open_live(f"{site.url}/chat/")
        browser.run("window.isSamePage = true")
        browser.write("before")
        browser.wait_for_message("before")
        if how == "killed":
            site.popen.kill()
        else:
            site.press_ctrl_c()
        site.popen.wait(10)
        browser.wait_for_state("connecting")
        browser.wait_for("socket.state === 'waiting'")
        browser.write("and ")
        browser.wait(lambda: browser.text("#note") == NOT_SENT, "the note")
        site.stop()
        site = SampleSite(environment, site.port)
        browser.wait_for_state("live")
        site.manage_py("wsbroadcast", "--facility", "chat", "after")
        browser.wait_for_message("after")
        browser.write("back")  # what was written stayed in its place
        browser.wait_for_message("and back")
        assert browser.messages() == ["and back", "after", "before"]
        assert browser.run("return window.isSamePage")
    finally:
        site.stop()


# wsredis.js, in a page of ours

LOADERS = {
    "classic script": """
        const script = document.createElement("script");
        script.src = "/static/django_wsredis/wsredis.js";
        script.onload = () => { window.loaded = window.WSRedis; };
        document.head.append(script);
    """,
    "module": """
        const script = document.createElement("script");
        script.type = "module";
        script.textContent = `
            import { WSRedis } from "/static/django_wsredis/wsredis.mjs";
            import again from "/static/django_wsredis/wsredis.mjs";
            window.loaded = WSRedis === again ? WSRedis : null;
        `;
        document.head.append(script);
    """,
}

LISTEN = """
    window.seen = [];
    window.socket = new (window.loaded || window.WSRedis)(arguments[0], arguments[1]);
    for (const type of ["open", "message", "close", "reconnecting"]) {
        socket.addEventListener(type, (event) => seen.push({
            type, data: typeof event.data === "string" ? event.data : event.data && [...new Uint8Array(event.data)],
            code: event.code, reason: event.reason, final: event.final, reconnect: event.detail?.reconnect,
        }));
    }
"""


@pytest.fixture
def page(site: SampleSite, browser: Browser) -> Browser:
    """A page of the sample site's origin, into which wsredis.js is loaded, and which opens no socket itself."""
    browser.open(f"{site.url}/login/")
    browser.run(LOADERS["classic script"])
    browser.wait_for("typeof window.loaded === 'function'")
    return browser


@pytest.mark.parametrize("kind", LOADERS)
def test_the_script_loads_as(site: SampleSite, browser: Browser, kind: str) -> None:
    browser.open(f"{site.url}/login/")
    assert browser.run("return typeof WSRedis") == "undefined"
    browser.run(LOADERS[kind])
    browser.wait_for("typeof window.loaded === 'function'")
    browser.run(LISTEN, "/ws/chat?subscribe-broadcast&publish-broadcast&echo", {})
    browser.wait_for("socket.state === 'open'")
    browser.run("socket.send('text'); socket.send({a: [1, null]}); socket.send(new Uint8Array([0, 255]))")
    browser.wait_for("seen.filter((event) => event.type === 'message').length === 3")
    received = [event["data"] for event in browser.run("return seen") if event["type"] == "message"]
    assert received == ["text", '{"a":[1,null]}', [0, 255]]
    browser.run("socket.close()")
    assert browser.run("return socket.state") == "closed"


class Answering:
    """A small websocket server that treats each connection as the test says, and remembers them."""

    def __init__(self, treat: Callable[[ServerConnection, int], None]) -> None:
        self.connections: list[str] = []
        self._treat = treat
        self._server = serve(self._handle, "127.0.0.1", 0, ping_interval=None, compression=None)
        self.uri = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Answering:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()

    def _handle(self, connection: ServerConnection) -> None:
        self.connections.append(connection.request.path if connection.request else "")
        try:
            self._treat(connection, len(self.connections))
        except ConnectionClosed:
            pass


QUICK = {"retryBase": 100, "retryCap": 200, "protocols": []}  # these servers know no wsredis.v1


@pytest.mark.parametrize("code", [1003, 1008, 4401, 4403])
def test_a_code_that_means_do_not_come_back_ends_it(page: Browser, code: int) -> None:
    with Answering(lambda connection, _: connection.close(code, "no")) as server:
        page.run(LISTEN, server.uri, QUICK)
        page.wait_for("socket.state === 'closed'")
        closed = page.run("return seen.at(-1)")
        assert (closed["type"], closed["code"], closed["reason"], closed["final"]) == ("close", code, "no", True)
        page.run("window.later = false; setTimeout(() => { window.later = true; }, 500)")  # 200 ms would be the longest
        page.wait_for("window.later")
        assert len(server.connections) == 1
        assert "reconnecting" not in [event["type"] for event in page.run("return seen")]


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 4000])
def test_after_any_other_code_it_comes_back(page: Browser, code: int) -> None:
    def close_twice(connection: ServerConnection, number: int) -> None:
        if number <= 2:
            connection.close(code)
        else:
            connection.send("welcome")
            connection.recv()

    with Answering(close_twice) as server:
        page.run(LISTEN, server.uri, QUICK)
        page.wait_for("seen.some((event) => event.data === 'welcome')")
        seen = page.run("return seen")
        assert [event["code"] for event in seen if event["type"] == "close"] == [code, code]
        assert [event["reconnect"] for event in seen if event["type"] == "open"] == [False, True, True]
        assert not any(event["final"] for event in seen)
        page.run("socket.close()")
        assert len(server.connections) == 3


def test_heartbeats_keep_it_and_are_not_shown(page: Browser) -> None:
    beats = """
        window.beats = 0;
        arguments[1].WebSocket = class extends WebSocket {
            constructor(...given) {
                super(...given);
                this.addEventListener("message", (event) => { window.beats += event.data === "--heartbeat--"; });
            }
        };
    """
    options = {"protocols": [], "heartbeat": "--heartbeat--", "heartbeatInterval": 50, "heartbeatTimeout": 1500}
    page.run(beats + LISTEN, "/ws/chat?subscribe-broadcast", options)
    page.wait_for("window.beats >= 2")
    assert [event["type"] for event in page.run("return seen")] == ["open"]
    assert page.run("return socket.state") == "open"
    page.run("socket.close()")


def test_a_server_that_answers_no_heartbeat_is_left_for_a_new_connection(page: Browser) -> None:
    def be_deaf_once(connection: ServerConnection, number: int) -> None:
        for message in connection:
            if number > 1:
                connection.send(message)

    with Answering(be_deaf_once) as server:
        options = {**QUICK, "heartbeat": "beat", "heartbeatInterval": 100, "heartbeatTimeout": 1000}
        page.run(LISTEN, server.uri, options)
        page.wait_for("seen.filter((event) => event.type === 'open').length === 2")
        closed = next(event for event in page.run("return seen") if event["type"] == "close")
        assert (closed["code"], closed["reason"], closed["final"]) == (1006, "no heartbeat", False)
        page.run("socket.close()")


def test_it_waits_for_a_server_that_is_not_there_yet(page: Browser) -> None:
    with Answering(lambda connection, _: None) as server:
        uri = server.uri
    page.run(LISTEN, uri, QUICK)
    page.wait_for("seen.filter((event) => event.type === 'reconnecting').length >= 2")
    page.run("window.error = null; try { socket.send('lost'); } catch (error) { window.error = error.message; }")
    assert "cannot send" in page.run("return window.error")
    page.run("socket.close()")
    assert page.run("return [socket.state, seen.at(-1).final]") == ["closed", True]
