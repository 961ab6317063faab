"""A real browser in the sample site's rooms: two people, whose messages a form reads, and who see each other."""

# ruff: noqa: F811  what is imported from test_browser are fixtures

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from selenium.webdriver.common.by import By

from .servers import RedisServer, wait_until
from .test_browser import (  # noqa: F401
    Browser,
    SampleSite,
    browser,
    environment,
    new_browser,
    other_browser,
    running,
    site,
)


@pytest.fixture(autouse=True)
def nobody_here(environment: dict[str, str], browser: Browser, other_browser: Browser) -> Iterator[None]:
    """Both are somewhere else when a test begins, in windows that remember nothing, and the rooms are empty."""
    yield
    for window in (browser, other_browser):
        window.run("if (location.protocol.startsWith('http')) sessionStorage.clear()")
        window.open("about:blank")
    wait_until(lambda: guests_in(environment) == [], what="empty rooms")


@contextmanager
def database_of(environment: dict[str, str]) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(environment["SAMPLE_SITE_DB"], timeout=20)) as database, database:
        yield database


def guests_in(environment: dict[str, str]) -> list[tuple[str, str]]:
    with database_of(environment) as database:
        return database.execute("SELECT room, name FROM chat_guest ORDER BY name").fetchall()


def let_time_pass(environment: dict[str, str], name: str) -> None:
    """Have it been two minutes and a half since somebody's page was heard."""
    with database_of(environment) as database:
        database.execute("UPDATE chat_guest SET seen_at = datetime(seen_at, '-150 seconds') WHERE name = ?", [name])


def enter(person: Browser, site: SampleSite, name: str, color: str = "teal", room: str = "lobby") -> None:
    """Open a room, and be there by a name."""
    person.open_live(f"{site.url}/rooms/{room}/")
    person.run(
        """
        const form = document.getElementById("form");
        form.name.value = arguments[0];
        form.color.value = arguments[1];
        form.name.dispatchEvent(new Event("change", { bubbles: true }));
        """,
        name,
        color,
    )
    person.wait(lambda: name in here(person), f"{name} being in the room")


def here(person: Browser) -> list[str]:
    return person.run("return [...document.querySelectorAll('#guests li')].map((item) => item.textContent)")


def talk(person: Browser) -> list[list[str]]:
    """Return what was said: who, in which colour, and what, the newest first; without who came and left."""
    return person.run(
        """
        return [...document.querySelectorAll("#messages li:not(.event)")]
            .map(({ children: [name, text] }) => [name.textContent, name.dataset.color, text.textContent]);
        """
    )


def events(person: Browser) -> list[str]:
    """Return who came and left, the oldest first."""
    return person.run(
        """
        return [...document.querySelectorAll("#messages li.event")]
            .map((item) => [...item.children].map((child) => child.textContent).join(" ")).reverse();
        """
    )


def wait_for_talk(person: Browser, *expected: list[str]) -> None:
    person.wait(lambda: talk(person) == list(expected), f"{expected} in place of {talk(person)}")


def wait_for_guests(person: Browser, *names: str) -> None:
    person.wait(lambda: here(person) == list(names), f"{names} being here")


def test_two_people_talk_in_a_room(site: SampleSite, browser: Browser, other_browser: Browser) -> None:
    enter(browser, site, "Ann", "rose")
    enter(other_browser, site, "Ben", "blue")
    browser.write("hello <b>Ben</b>")
    wait_for_talk(other_browser, ["Ann", "rose", "hello <b>Ben</b>"])
    other_browser.write("hello Ann")
    for person in (browser, other_browser):
        wait_for_talk(person, ["Ben", "blue", "hello Ann"], ["Ann", "rose", "hello <b>Ben</b>"])
    browser.wait_for("document.getElementById('text').value === ''")
    shown = browser.run("return getComputedStyle(document.querySelector('#messages b[data-color=blue]')).color")
    assert shown == "rgb(36, 99, 168)"


def test_other_rooms_hear_nothing(site: SampleSite, browser: Browser, other_browser: Browser) -> None:
    enter(browser, site, "Ann")
    enter(other_browser, site, "Ben", room="garden")
    assert here(browser) == ["Ann"]
    browser.write("in the lobby")
    wait_for_talk(browser, ["Ann", "teal", "in the lobby"])
    other_browser.write("in the garden")
    wait_for_talk(other_browser, ["Ben", "teal", "in the garden"])


def test_the_forms_errors_are_shown_and_what_was_written_stays(site: SampleSite, browser: Browser) -> None:
    enter(browser, site, "Ann")
    text = "x" * 301
    browser.write(text)
    too_long = "Ensure this value has at most 300 characters (it has 301)."
    browser.wait(lambda: browser.text("#text-error") == too_long, "the text's error")
    assert browser.run("return document.getElementById('text').value") == text
    browser.chrome.find_element(By.ID, "name").clear()
    browser.chrome.find_element(By.ID, "send").click()
    browser.wait(lambda: browser.text("#name-error") == "This field is required.", "the name's error")
    assert browser.run("return document.getElementById('name').getAttribute('aria-invalid')") == "true"
    assert talk(browser) == []

    browser.chrome.find_element(By.ID, "name").send_keys("Ann")
    browser.chrome.find_element(By.ID, "text").clear()
    browser.write("short")
    wait_for_talk(browser, ["Ann", "teal", "short"])
    assert browser.text("#text-error") == browser.text("#name-error") == browser.text("#note") == ""


def test_a_page_that_is_opened_again_shows_what_was_said(site: SampleSite, browser: Browser) -> None:
    enter(browser, site, "Ann", "amber")
    browser.write("one")
    wait_for_talk(browser, ["Ann", "amber", "one"])
    browser.write("two")
    said = (["Ann", "amber", "two"], ["Ann", "amber", "one"])
    wait_for_talk(browser, *said)
    browser.open_live(f"{site.url}/rooms/lobby/")
    wait_for_talk(browser, *said)
    wait_for_guests(browser, "Ann")  # the window has kept its name


def test_one_sees_who_comes_and_leaves(site: SampleSite, browser: Browser, other_browser: Browser) -> None:
    enter(browser, site, "Ann")
    enter(other_browser, site, "Ben")
    wait_for_guests(browser, "Ann", "Ben")
    enter(other_browser, site, "Benjamin")
    wait_for_guests(browser, "Ann", "Benjamin")
    other_browser.open(f"{site.url}/")
    wait_for_guests(browser, "Ann")
    browser.wait(lambda: events(browser)[-1:] == ["Benjamin left"], "the note that he left")
    assert [event for event in events(browser) if not event.startswith("Guest")][:3] == [
        "Ann came", "Ben came", "Ben left",
    ]  # fmt: skip


def test_somebody_with_two_windows_is_here_once(site: SampleSite, browser: Browser, other_browser: Browser) -> None:
    enter(browser, site, "Ann")
    enter(other_browser, site, "Ann")
    for window in (browser, other_browser):
        wait_for_guests(window, "Ann")
    other_browser.open(f"{site.url}/")
    enter(other_browser, site, "Ben")
    wait_for_guests(browser, "Ann", "Ben")
    assert "Ann left" not in events(browser)


def test_workers_agree_on_who_is_here_also_when_one_was_killed(
    environment: dict[str, str],
    redis_server: RedisServer,
    browser: Browser,
    other_browser: Browser,
) -> None:
    site = SampleSite(environment, 0, "--workers", "2")
    try:
        enter(browser, site, "Ann")
        enter(other_browser, site, "Ben")
        for person in (browser, other_browser):
            person.run("socket.addEventListener('open', () => { window.isBack = true; })")
        for worker in site.children():
            os.kill(worker, signal.SIGKILL)  # nobody's on_close() is called
        for person in (browser, other_browser):
            person.wait_for("window.isBack")
        enter(other_browser, site, "Benjamin")
        # of the sockets that ended so there are rows still, and those of Ann are no second Ann
        wait_for_guests(browser, "Ann", "Ben", "Benjamin")
        assert len(guests_in(environment)) == 4
        let_time_pass(environment, "Ben")
        browser.write("is Ben here?")
        wait_for_guests(browser, "Ann", "Benjamin")
        browser.wait(lambda: events(browser)[-1] == "Ben left", "the note that he left")
    finally:
        for person in (browser, other_browser):
            person.open("about:blank")
        site.stop()
        with database_of(environment) as database:
            database.execute("DELETE FROM chat_guest")


def test_who_was_taken_for_gone_comes_back(
    environment: dict[str, str], site: SampleSite, browser: Browser, other_browser: Browser
) -> None:
    enter(browser, site, "Ann")
    enter(other_browser, site, "Ben")
    let_time_pass(environment, "Ann")
    other_browser.write("is Ann here?")
    for person in (browser, other_browser):
        wait_for_guests(person, "Ben")
    browser.write("I am")
    for person in (browser, other_browser):
        wait_for_guests(person, "Ann", "Ben")


def test_echo_and_ping(site: SampleSite, browser: Browser) -> None:
    browser.open_live(f"{site.url}/")
    browser.chrome.find_element(By.LINK_TEXT, "echo").click()
    browser.wait_for_state("live")
    browser.write("hello")
    browser.wait(lambda: browser.messages() == ["hello"], "the echo")
    browser.chrome.find_element(By.LINK_TEXT, "Ping").click()
    browser.wait_for_state("live")
    for word in ("ping", "hello", "pong"):
        browser.write(word)
    answers = ["pong", "ping"]
    browser.wait(
        lambda: sorted(browser.messages()) == sorted([*answers, "you: ping", "you: hello", "you: pong"]), "both"
    )
    assert [message for message in browser.messages() if not message.startswith("you")] == answers[::-1]
