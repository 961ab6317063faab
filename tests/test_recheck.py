"""Looking whether who is logged in on open sockets still is: in batches, once for each session, whatever fails."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import override_settings

from django_wsredis import sessions
from django_wsredis.conf import Settings
from django_wsredis.handshake import Standing
from django_wsredis.loop.recheck import BATCH, MAX_PROBLEMS, Question, Recheck, close_code, look
from django_wsredis.loop.registry import Registry
from django_wsredis.peer import Peer

SECONDS = 60.0


class Socket:
    """What a recheck knows of a connection."""

    def __init__(self, user: str, session: str, groups: str | None = None) -> None:
        self.peer = Peer(user, session)
        self.visitor = f"{user} {session}".encode()
        self.groups = groups
        self.dialogue: Any = None
        self.closed: tuple[int, str] | None = None

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)


class Watch:
    """A recheck in a worker whose time, threads and database are the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        given = Settings(websocket_url="/ws/", url="redis://", **{"session_recheck": SECONDS, **settings})
        self.now = 0.0
        self.timers: list[SimpleNamespace] = []
        self.has_room = True
        self.asked: list[bytes] = []
        self.fails: dict[bytes, BaseException] = {}
        self.found: dict[bytes, Standing] = {}
        self.seconds = 0.0
        self.with_groups: list[bool] = []
        self.regrouped: list[Socket] = []
        self.registry: Any = Registry()
        reactor: Any = SimpleNamespace(
            settings=given,
            now=lambda: self.now,
            timer=self._timer,
            run=lambda function, *arguments: function(*arguments),
            start_thread=self._start_thread,
        )
        monkeypatch.setattr("django_wsredis.handshake.standing_of", self._standing_of)
        self.recheck = Recheck(reactor, self.registry, self.regrouped.append)  # type: ignore[arg-type]

    def add(self, *sockets: Socket) -> None:
        for socket in sockets:
            self.registry.add(socket)

    def _timer(self, seconds: float) -> Any:
        timer = SimpleNamespace(at=self.now + seconds, function=None)
        timer.start = lambda function: setattr(timer, "function", function)
        timer.close = lambda: self.timers.remove(timer)
        self.timers.append(timer)
        return timer

    def _start_thread(self, function: Callable[[], object], on_failed: Callable[[str], object]) -> None:
        if not self.has_room:
            on_failed("can't start new thread")
            return
        try:
            function()
        except SystemExit:
            pass

    def _standing_of(self, visitor: bytes, *, with_groups: bool) -> Standing:
        self.asked.append(visitor)
        self.now += self.seconds
        self.with_groups.append(with_groups)
        if visitor in self.fails:
            raise self.fails[visitor]
        user, session = visitor.decode().split(" ")
        return self.found.get(visitor, Standing(user, session, None))

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while (timer := min(self.timers, key=lambda timer: timer.at, default=None)) and timer.at <= until:
            self.now = timer.at
            timer.function()
        self.now = max(self.now, until)

    def round(self) -> list[bytes]:
        """Let a round pass, and return what it asked for."""
        self.asked.clear()
        self.wait(SECONDS)
        return sorted(self.asked)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


def test_nobody_is_asked_for_where_nobody_has_a_session(watch: Watch) -> None:
    watch.add(Socket("", ""))
    assert watch.round() == watch.round() == []
    assert len(watch.timers) == 1


def test_each_session_is_looked_at_once_in_a_round(watch: Watch) -> None:
    watch.add(Socket("al", "s1"), Socket("al", "s1"), Socket("al", "s2"), Socket("", "s3"), Socket("", ""))
    assert watch.round() == [b" s3", b"al s1", b"al s2"]
    assert watch.round() == [b" s3", b"al s1", b"al s2"]


def test_batches_are_spread_over_the_round(watch: Watch) -> None:
    watch.add(*(Socket(f"u{number}", f"s{number}") for number in range(2 * BATCH + 1)))
    watch.wait(SECONDS)
    sizes = []
    for _ in range(4):
        sizes.append(len(watch.asked))
        watch.asked.clear()
        watch.wait(SECONDS / 3)
    assert sizes == [BATCH, BATCH, 1, BATCH]


def test_a_slow_look_is_followed_by_the_next_one_at_once(watch: Watch) -> None:
    watch.add(*(Socket(f"u{number}", f"s{number}") for number in range(2 * BATCH)))
    watch.seconds = 1.0  # of each answer
    watch.wait(SECONDS)
    watch.wait(SECONDS)
    assert len(watch.asked) == 2 * BATCH


def test_after_the_end_nothing_is_looked_at(watch: Watch) -> None:
    watch.add(Socket("al", "s1"))
    watch.recheck.stop()
    assert watch.round() == watch.timers == []


@pytest.mark.parametrize("settings", [{"session_recheck": 0}, {"process_request": "a.b"}])
def test_it_can_be_turned_off_and_a_process_request_does_so(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    watch = Watch(monkeypatch, **settings)
    watch.add(Socket("al", "s1"))
    assert watch.round() == []


def test_who_is_somebody_else_now_is_closed_and_all_others_stay(watch: Watch) -> None:
    gone, renamed, visitor, same = Socket("al", "s1"), Socket("bo", "s2"), Socket("", "s3"), Socket("di", "s4")
    watch.add(gone, renamed, visitor, same)
    watch.found = {
        b"al s1": Standing("", "", None),
        b"bo s2": Standing("bob", "s2", None),
        b" s3": Standing("", "", None),
    }
    watch.round()
    assert gone.closed == (4401, "no longer logged in")
    assert renamed.closed == visitor.closed == (1012, "the session has changed")
    assert same.closed is None


@pytest.mark.parametrize(
    ("peer", "standing", "of_server", "of_cookie"),
    [
        (("al", "s"), ("al", "s"), None, None),
        (("", "s"), ("", "s"), None, None),
        (("al", "s"), ("", "s"), 4401, 4401),  # the user is deleted, or not active
        (("al", "s"), ("", ""), 4401, 1012),  # the session has gone, or the cookie is too old
        (("al", "s"), ("bo", "s"), 1012, 1012),
        (("", "s"), ("", ""), 1012, 1012),
        (("", "s"), ("al", "s"), 1012, 1012),
    ],
)
def test_the_close_code_says_whether_to_come_back(
    peer: tuple[str, str], standing: tuple[str, str], of_server: int | None, of_cookie: int | None
) -> None:
    for in_cookies, expected in ((False, of_server), (True, of_cookie)):
        found = close_code(Peer(*peer), Standing(*standing, None), in_cookies=in_cookies)
        assert (found and found[0]) == expected


def test_other_groups_are_looked_for_where_a_socket_wants_them(watch: Watch) -> None:
    plain, stale, v1 = Socket("al", "s1"), Socket("al", "s1", "staff"), Socket("al", "s1")
    v1.dialogue = SimpleNamespace(groups={None, "staff", "staff\0editors"})
    watch.add(plain, stale, v1, Socket("bo", "s2"), Socket("di", "s3", ""))
    watch.found = dict.fromkeys((b"al s1",), Standing("al", "s1", "staff\0editors"))
    watch.found[b"di s3"] = Standing("di", "s3", "")
    watch.round()
    assert sorted(watch.with_groups) == [False, True, True]
    assert set(watch.regrouped) == {stale, v1}


def test_groups_are_not_looked_for_where_they_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch, follow=frozenset({"logout"}))
    watch.add(Socket("al", "s1", "staff"))
    watch.round()
    assert watch.with_groups == [False]


# What fails


def test_one_that_cannot_be_looked_at_stays_and_does_not_hinder_others(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    broken, gone = Socket("al", "s1"), Socket("bo", "s2")
    watch.add(broken, gone)
    watch.fails[b"al s1"] = ValueError("a bug")
    watch.found[b"bo s2"] = Standing("", "", None)
    watch.round()
    assert (broken.closed, gone.closed) == (None, (4401, "no longer logged in"))
    watch.round()
    (record,) = caplog.records
    assert "ValueError('a bug')" in record.getMessage()
    watch.fails.clear()
    with caplog.at_level("INFO"):
        watch.round()
        watch.round()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_after_some_errors_the_rest_of_a_batch_is_left(watch: Watch) -> None:
    watch.add(*(Socket(f"u{number}", f"s{number}") for number in range(BATCH)))
    watch.fails = {f"u{number} s{number}".encode(): OSError("away") for number in range(BATCH)}
    assert len(watch.round()) == MAX_PROBLEMS


@pytest.mark.parametrize("error", [SystemExit(), None])
def test_it_goes_on_without_a_thread_and_when_one_ends(watch: Watch, error: BaseException | None) -> None:
    watch.add(socket := Socket("al", "s1"))
    watch.has_room = error is not None
    if error is not None:
        watch.fails[b"al s1"] = error
    watch.round()
    watch.has_room, watch.fails = True, {}
    watch.found[b"al s1"] = Standing("", "", None)
    watch.round()
    assert socket.closed == (4401, "no longer logged in")


# Sessions in a cache


class Cache:
    """A cache that may be away, and then comes back with or without what it kept."""

    def __init__(self, *, keeps: bool = True, fails: bool = False) -> None:
        self.keeps, self.fails = keeps, fails
        self.kept: dict[str, str] = {}

    def set(self, key: str, value: str, seconds: int) -> None:
        if self.fails:
            raise ConnectionError("refused")
        if self.keeps:
            self.kept[key] = value

    def get(self, key: str) -> str | None:
        return self.kept.get(key)

    def delete(self, key: str) -> None:
        del self.kept[key]


@pytest.mark.parametrize(
    ("cache", "problem"),
    [
        (Cache(), None),
        (Cache(fails=True), "ConnectionError('refused')"),
        (Cache(keeps=False), "ConnectionError('the cache of sessions keeps nothing')"),
    ],
)
def test_a_session_that_a_cache_does_not_find_has_gone_if_the_cache_works(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, cache: Cache, problem: str | None
) -> None:
    watch.found[b"al s1"] = Standing("", "", None)
    monkeypatch.setattr("django.contrib.sessions.backends.cache.caches", {"default": cache})
    with override_settings(SESSION_ENGINE="django.contrib.sessions.backends.cache"):
        found, problems = look([Question("s1", b"al s1", False), Question("s2", b"bo s2", False)])
    is_found = [question.session for question, _ in found]
    assert (is_found, [repr(error) for error in problems]) == (
        (["s2", "s1"], []) if problem is None else (["s2"], [problem])
    )
    assert cache.kept == {}


def test_a_session_that_is_there_at_the_second_look_has_not_gone(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache was away for a moment."""
    watch.found[b"al s1"] = Standing("", "", None)
    monkeypatch.setattr(sessions, "prove_store", watch.found.clear)
    found, _ = look([Question("s1", b"al s1", False)])
    assert found == [(Question("s1", b"al s1", False), Standing("al", "s1", None))]


@pytest.mark.parametrize("engine", ["db", "cached_db", "signed_cookies", "file"])
def test_other_engines_need_no_proof(engine: str) -> None:
    with override_settings(SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}"):
        sessions.prove_store()
        assert sessions.are_in_cookies() == (engine == "signed_cookies")
        assert (sessions.model() is None) == ("db" not in engine)
