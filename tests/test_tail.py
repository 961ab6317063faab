"""`manage.py wsinspect --tail` when Redis goes away, hangs, moves, and comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.test import override_settings
from redis.crc import key_slot

from django_wsredis import BrokerUnavailable, publish
from django_wsredis.channels import Channel, redis_name
from django_wsredis.control import Filter
from django_wsredis.inspection.tail import Target, read_target

from .servers import RedisServer, free_port, run_manage
from .tails import Tail
from .topologies import Cluster, Sentinels


def say(text: str, facility: str = "chat") -> None:
    try:
        publish(text, facility=facility, broadcast=True)
    except BrokerUnavailable:
        pass


@pytest.mark.parametrize(
    ("text", "names", "live", "is_everything"),
    [
        ("chat", ["broadcast:chat"], {"facility": "chat"}, False),
        ("chat/*", [], {"facility": "chat/*"}, False),
        ("a:b", ["broadcast:a%3Ab"], {"facility": "a:b"}, False),
        ("broadcast:chat", ["broadcast:chat"], None, False),
        ("user:alice:chat/1", ["user:alice:chat/1"], None, False),
        ("user:*:chat", [], {"channel": "user:*:chat"}, False),
        ("session:cart", [], {"channel": "session:cart"}, False),
        ("everywhere", [], None, True),
    ],
)
def test_what_a_text_names(
    redis_server: RedisServer, text: str, names: list[str], live: dict[str, str] | None, is_everything: bool
) -> None:
    with override_settings(WSREDIS={"URL": redis_server.url}):
        found = read_target(text)
    wanted = Filter(**live) if live else None
    assert found == Target(frozenset(f"wsredis:{name}".encode() for name in names), wanted, is_everything)


def test_redis_may_be_killed(own_redis: RedisServer) -> None:
    with override_settings(WSREDIS={"URL": own_redis.url}), Tail(own_redis.url, "chat") as tail:
        tail.wait_until_followed(say)
        own_redis.kill()
        tail.wait_for(r"^Redis .* cannot be reached: .* Trying again\.$")
        own_redis.start()
        tail.wait_for("^Redis is back; what was published meanwhile is not shown.$")
        tail.wait_until_followed(say)
        assert tail.output.count("Trying again") <= 2  # it may have lost the connection before Redis was gone


def test_redis_may_hang(own_redis: RedisServer) -> None:
    with override_settings(WSREDIS={"URL": own_redis.url}), Tail(own_redis.url, "broadcast:chat") as tail:
        tail.wait_until_followed(say)
        os.kill(own_redis.process.pid, signal.SIGSTOP)
        try:
            tail.wait_for(r"^Redis .* does not answer\. Trying again\.$")
        finally:
            os.kill(own_redis.process.pid, signal.SIGCONT)
        tail.wait_for("^Redis is back")
        tail.wait_until_followed(say)


def test_a_quiet_channel_is_followed_on(own_redis: RedisServer) -> None:
    """The links are asked whether they live, which is no loss of them."""
    with override_settings(WSREDIS={"URL": own_redis.url}), Tail(own_redis.url, "broadcast:chat") as tail:
        tail.wait_until_followed(say)
        with pytest.raises(BaseException, match="did not happen"):
            tail.wait_for("Trying again", 7)
        tail.wait_until_followed(say)


def test_redis_away_at_the_beginning_is_one_line() -> None:
    for what in ("chat", "broadcast:chat", "*"):
        done = run_manage("wsinspect", "--tail", what, redis_url=f"redis://127.0.0.1:{free_port()}/0")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert "cannot be reached" in done.stderr


def test_what_is_no_message_is_told(own_redis: RedisServer) -> None:
    with override_settings(WSREDIS={"URL": own_redis.url}), Tail(own_redis.url, "chat") as tail:
        tail.wait_until_followed(say)
        with own_redis.client() as client:
            client.publish("wsredis:broadcast:chat", b"\xffW\xff")
        tail.wait_for("^A message on broadcast:chat cannot be read, and is delivered to nobody: an envelope")


@pytest.fixture
def cluster(folder: Path) -> Iterator[Cluster]:
    made = Cluster(folder)
    with override_settings(WSREDIS={"URL": made.url}):
        yield made
    made.stop()


def test_slots_may_move_and_masters_change(cluster: Cluster) -> None:
    names = cluster.names(per_master=1)
    with ExitStack() as stack:
        tails = {
            facility: stack.enter_context(Tail(cluster.url, f"broadcast:{facility}"))
            for found in names.values()
            for facility in (found[0].rpartition(":")[2],)
        }
        for facility, tail in tails.items():
            tail.wait_until_followed(lambda text, facility=facility: say(text, facility))
        facility, tail = next(iter(tails.items()))
        name = redis_name("wsredis", Channel("broadcast", "", facility))
        source = cluster.master_of(name.decode())
        cluster.move_slot(key_slot(name), next(node for node in cluster.masters() if node is not source))
        tail.wait_for("^Slots of the cluster have moved; what was published meanwhile is not shown.$")
        tail.wait_until_followed(lambda text: say(text, facility))

        cluster.fail_over(cluster.master_of(name.decode()))
        tail.wait_until_followed(lambda text: say(text, facility))


def test_a_master_of_sentinels_may_die(folder: Path) -> None:
    sentinels = Sentinels(folder)
    try:
        with override_settings(WSREDIS={"URL": sentinels.url}), Tail(sentinels.url, "chat") as tail:
            tail.wait_until_followed(say)
            sentinels.master.kill()
            tail.wait_for(r"Trying again\.$")
            tail.wait_for("^Redis is back")
            tail.wait_until_followed(say)
    finally:
        sentinels.stop()
