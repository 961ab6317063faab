"""A connection to Redis: which of what comes is a reply, and which came by itself."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hiredis import ReplyError

from django_wsredis.loop import replies
from django_wsredis.loop.link import Link


class Reactor:
    """A loop in which what is to be done soon is done when a test says so."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def io(self, fileno: int, events: int) -> Any:
        return SimpleNamespace(start=lambda function: None, stop=lambda: None, close=lambda: None)

    def call_soon(self, function: Callable[[], None]) -> None:
        self.soon.append(function)


class Rig:
    """A link, and the end of its connection at which Redis would be."""

    def __init__(self) -> None:
        ours, self.redis = socket.socketpair()
        self.redis.settimeout(5)
        self.seen: list[tuple[Any, ...]] = []
        self.reactor: Any = Reactor()
        self.link = Link(
            self.reactor,
            SimpleNamespace(_sock=ours, disconnect=ours.close),
            on_message=lambda name, data: self.seen.append(("message", name, data)),
            on_read=lambda: None,
            on_lost=lambda reason: self.seen.append(("lost", reason)),
            on_unsubscribed=lambda name: self.seen.append(("unsubscribed", name)),
        )

    def call(self, *command: bytes | str) -> None:
        """Send a command; its reply is seen with the command's last word."""
        self.link.call(*command, on_reply=lambda reply: self.seen.append((command[-1], kind(reply))))

    def receive(self, *replies: bytes) -> list[tuple[Any, ...]]:
        """Let Redis send this; returns what is seen of it."""
        self.seen.clear()
        self.redis.sendall(b"".join(replies))
        self.link._on_readable()
        return self.seen

    def sent(self) -> bytes:
        for function in self.reactor.soon:
            function()
        self.reactor.soon.clear()
        return self.redis.recv(10_000)


def kind(reply: Any) -> Any:
    """Return an error's first word, a push's, or the reply."""
    if isinstance(reply, ReplyError):
        return str(reply).split()[0]
    return reply[0] if isinstance(reply, list) else reply


def push(word: bytes, name: bytes, last: bytes = b":0\r\n") -> bytes:
    return b">3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n%s" % (len(word), word, len(name), name, last)


PONG = b"+PONG\r\n"
MOVED = b"-MOVED 1 h:1\r\n"


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.link.close()
    rig.redis.close()


def test_messages_are_handed_over(rig: Rig) -> None:
    sent = [push(word, b"a", b"$1\r\nx\r\n") for word in (b"message", b"smessage")]
    assert rig.receive(*sent) == [("message", b"a", b"x")] * 2


@pytest.mark.parametrize("word", ["subscribe", "ssubscribe", "unsubscribe"])
def test_what_confirms_a_subscription_is_its_reply(rig: Rig, word: str) -> None:
    rig.call(word.upper(), b"a")
    rig.call("PING")
    assert rig.receive(push(word.encode(), b"a"), PONG) == [(b"a", word.encode()), ("PING", b"PONG")]


def test_a_subscription_that_is_refused_gets_the_error(rig: Rig) -> None:
    rig.call("SSUBSCRIBE", b"a")
    rig.call("PING")
    assert rig.receive(MOVED, PONG) == [(b"a", "MOVED"), ("PING", b"PONG")]


def test_a_push_that_nobody_knows_is_no_reply(rig: Rig) -> None:
    rig.call("PING")
    assert rig.receive(push(b"invalidate", b"a"), PONG) == [("PING", b"PONG")]


# An UNSUBSCRIBE follows each SUNSUBSCRIBE: its reply, which comes in any case, tells where the one before ends


def test_leaving_a_shards_channel_is_one_reply(rig: Rig) -> None:
    rig.call("SUNSUBSCRIBE", b"a")
    assert rig.sent().count(b"UNSUBSCRIBE") == 2
    rig.call("PING")
    replies = rig.receive(push(b"sunsubscribe", b"a"), push(b"unsubscribe", b"a"), PONG)
    assert replies == [(b"a", b"unsubscribe"), ("PING", b"PONG")]


def test_leaving_a_channel_whose_slot_has_left_is_no_news(rig: Rig) -> None:
    rig.call("SUNSUBSCRIBE", b"a")
    rig.call("PING")
    replies = rig.receive(push(b"sunsubscribe", b"a"), MOVED, push(b"unsubscribe", b"a"), PONG)
    assert replies == [(b"a", b"unsubscribe"), ("PING", b"PONG")]


def test_a_slot_that_leaves_is_told(rig: Rig) -> None:
    rig.call("PING")
    assert rig.receive(push(b"sunsubscribe", b"a"), PONG) == [("unsubscribed", b"a"), ("PING", b"PONG")]


def test_a_slot_that_leaves_while_another_channel_is_left_is_told(rig: Rig) -> None:
    rig.call("SUNSUBSCRIBE", b"a")
    rig.call("PING")
    replies = rig.receive(push(b"sunsubscribe", b"b"), push(b"sunsubscribe", b"a"), push(b"unsubscribe", b"a"), PONG)
    assert replies == [("unsubscribed", b"b"), (b"a", b"unsubscribe"), ("PING", b"PONG")]


def test_a_lost_connection_is_told_once(rig: Rig) -> None:
    rig.call("PING")
    rig.redis.close()
    rig.link._on_readable()
    rig.link.close()
    assert rig.seen == [("lost", "Redis closed the connection (1 command was not answered)")]
    assert rig.link.is_closed


# Refusals


@pytest.mark.parametrize(
    ("text", "is_elsewhere"),
    [
        ("MOVED 1 h:1", True),
        ("ASK 1 h:1", True),
        ("TRYAGAIN Multiple keys request during rehashing of slot", True),
        ("CLUSTERDOWN The cluster is down", True),
        ("READONLY You can't write against a read only replica.", True),
        ("ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write", True),
        ("MASTERDOWN Link with MASTER is down", True),
        ("LOADING Redis is loading the dataset in memory", True),
        ("UNBLOCKED force unblock from blocking operation", True),
        ("NOPERM No permissions", False),
        ("MISCONF Redis is configured to save RDB snapshots", False),
        ("OOM command not allowed", False),
        ("ERR MOVED", False),
        ("", False),
    ],
)
def test_which_refusals_mean_that_the_master_is_elsewhere(text: str, is_elsewhere: bool) -> None:
    assert replies.is_elsewhere(ReplyError(text)) is is_elsewhere


@pytest.mark.parametrize(
    ("text", "is_transient"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'. script: 1, on @user_script:1.", True),
        ("ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -OOM command not allowed", True),
        ("NOREPLICAS Not enough good replicas to write.", True),
        ("MISCONF Redis is configured to save RDB snapshots", True),
        ("BUSY Redis is busy running a script.", True),
        ("BUSYKEY Target key name already exists.", False),
        ("NOPERM No permissions", False),
        ("WRONGTYPE Operation against a key", False),
        ("READONLY You can't write against a read only replica.", False),
        ("", False),
    ],
)
def test_which_refusals_pass(text: str, is_transient: bool) -> None:
    assert replies.is_transient(ReplyError(text)) is is_transient
