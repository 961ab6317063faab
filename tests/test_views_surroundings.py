"""What the thread of a handshake had, in those of its view."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

from django_wsredis.views.surroundings import Surroundings

tenant = ContextVar("tenant", default="nobody")


@pytest.fixture
def in_thread() -> Iterator[Callable[..., Any]]:
    """Call a function in a thread, always the same one."""
    with ThreadPoolExecutor(1) as executor:
        yield lambda function, *arguments: executor.submit(function, *arguments).result(10)


def seen() -> list[object]:
    zone = timezone.get_current_timezone_name()
    return [get_urlconf(), get_script_prefix(), zone, translation.get_language(), tenant.get()]


def change(urlconf: str, prefix: str, zone: str, language: str, name: str) -> Surroundings:
    set_urlconf(urlconf)
    set_script_prefix(prefix)
    timezone.activate(zone)
    translation.activate(language)
    tenant.set(name)
    return Surroundings()


def test_another_thread_sees_what_was_there(in_thread: Callable[..., Any]) -> None:
    with ThreadPoolExecutor(1) as handshakes:
        first = handshakes.submit(change, "a.urls", "/a/", "Asia/Tokyo", "de", "alice").result()
        second = handshakes.submit(change, "b.urls", "/b/", "Europe/Berlin", "fr", "bob").result()
    for _ in range(2):
        assert in_thread(first.run, seen) == ["a.urls", "/a/", "Asia/Tokyo", "de", "alice"]
        assert in_thread(second.run, seen) == ["b.urls", "/b/", "Europe/Berlin", "fr", "bob"]


def test_what_a_call_changes_is_gone_with_it(in_thread: Callable[..., Any]) -> None:
    with ThreadPoolExecutor(1) as handshakes:
        plain = handshakes.submit(Surroundings).result()
    before = in_thread(plain.run, seen)
    in_thread(plain.run, change, "a.urls", "/a/", "Asia/Tokyo", "de", "alice")
    assert in_thread(plain.run, seen) == before
    assert in_thread(seen)[1:] == before[1:]


def test_translations_that_were_switched_off_stay_so(in_thread: Callable[..., Any]) -> None:
    def switch_off() -> Surroundings:
        translation.deactivate_all()
        return Surroundings()

    with ThreadPoolExecutor(1) as handshakes:
        off = handshakes.submit(switch_off).result()
    assert in_thread(off.run, translation.get_language) is None


def test_a_call_leaves_no_connection_to_the_database(in_thread: Callable[..., Any], database: object) -> None:
    def query() -> bool:
        User.objects.exists()
        return connection.connection is not None

    assert in_thread(Surroundings().run, query)
    assert not in_thread(lambda: connection.connection)
