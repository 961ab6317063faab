"""The join rule as a property: whatever happens, a client misses nothing unannounced, and sees nothing twice.

Hub and subscriber run against a model of Redis, in one thread of execution. There are two shards, between which
channels move. Clients block, so that what is stored comes in pages; links break at any moment; streams lose their old
entries, expire, and begin again.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from hiredis import ReplyError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from django_wsredis import commands
from django_wsredis.channels import Channel, Wish
from django_wsredis.conf import Keep
from django_wsredis.exceptions import Unavailable
from django_wsredis.handshake import Granted
from django_wsredis.loop import subscriber as subscriber_module
from django_wsredis.loop.hub import Hub
from django_wsredis.loop.subscriber import Subscriber
from django_wsredis.loop.topic import Arrival, Join, Topic
from django_wsredis.messages import Message, decode, encode, envelope

from .ears import Ear, text
from .models import ModelLink, ModelRedis, id_bytes, number_of
from .servers import RedisServer, wait_until

PAGE_MESSAGES, PAGE_BYTES = 3, 40  # some four payloads
EXAMPLES = int(os.environ.get("TEST_EXAMPLES", 300))
KEEPS = {b"history": Keep(12, 60), b"short": Keep(2, 60), b"last": None}  # by channel, which is its facility too
NAMES = tuple(KEEPS)
EVERYWHERE = b"p:everywhere"


def nothing(*_: object) -> None:
    pass


# Redis


class ModelLinks:
    """What serves the channels, as the worker knows it: `owner` may have changed since."""

    is_sharded = False

    def __init__(self, reactor: Any, **callbacks: Any) -> None:
        self.callbacks = SimpleNamespace(**callbacks)
        self.has_tried = threading.Event()
        self.links: list[ModelLink | None] = [None, None]
        self.owner = dict.fromkeys(NAMES, 0)
        self.known = dict(self.owner)
        self.must_look = False

    @property
    def all_up(self) -> bool:
        return None not in self.links

    def link(self, name: bytes) -> Any:
        return self.links[self.known.get(name, 0)]

    def moved(self, link: Any = None) -> None:
        self.must_look = True


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber_module, "make_links", ModelLinks)
    monkeypatch.setattr(commands, "PAGE_MESSAGES", PAGE_MESSAGES)
    monkeypatch.setattr(commands, "PAGE_BYTES", PAGE_BYTES)
    for argument, value in (("count", PAGE_MESSAGES), ("max_bytes", PAGE_BYTES)):
        monkeypatch.setitem(commands.read_command.__kwdefaults__, argument, value)  # type: ignore[arg-type]


# Clients


def is_of(payload: str, name: bytes) -> bool:
    return payload.startswith(f"{name.decode()} ")


class Client:
    """What a browser knows of one socket, and whether the server keeps its word."""

    def __init__(self, ear: Ear, desk: Desk, log: dict[bytes, list[tuple[int, str]]]) -> None:
        self.ear = ear
        self.desk = desk
        self.log = log  # all that was ever kept, by channel: number and payload
        self.joins: list[tuple[Join, set[bytes]]] = []
        self.positions: dict[bytes, int | None] = {}
        self.in_gap: set[bytes] = set()
        self.acked: dict[str, set[bytes]] = defaultdict(set)  # the channels that the acks of a facility named
        self.read = 0
        self.seen: set[str] = set()

    @property
    def is_here(self) -> bool:
        return not self.ear.has_left

    def say(self, type: str, facility: str) -> None:
        self.ear.dialogue.on_message(json.dumps({"type": type, "facility": facility}).encode(), True)

    def forget(self, name: bytes) -> None:
        """Know nothing of a channel."""
        self.positions.pop(name, None)
        self.in_gap.discard(name)
        self.seen = {payload for payload in self.seen if not is_of(payload, name)}

    def missed(self, name: bytes, up_to: int) -> list[str]:
        """Return what was kept after its position, before a number."""
        position = self.positions.get(name)
        if position is None:
            return []
        return [payload for number, payload in self.log[name] if position < number <= up_to]

    def check(self) -> None:
        """Read what came since."""
        if self.ear.dialogue is None:
            news = [({}, payload) for payload in self.ear.heard[self.read :]]
            self.read = len(self.ear.heard)
        else:
            news = self.ear.told[self.read :]
            self.read = len(self.ear.told)
        for header, payload in news:
            match header.get("type"):
                case None:
                    self.on_message(payload, header)
                case "ack":
                    positions = {
                        name.removeprefix("broadcast:").encode(): id for name, id in header["channels"].items()
                    }
                    self.acked[header["facility"]].update(positions)
                    for name, id in positions.items():
                        self.on_ack(name, id)
                case "unsubscribed":
                    self.acked.pop(header["facility"], None)
                case "gap":
                    self.on_gap(header["channel"].removeprefix("broadcast:").encode(), header.get("since"))

    def on_message(self, payload: str, header: dict[str, Any]) -> None:
        assert payload not in self.seen, f"{payload} comes twice"
        self.seen.add(payload)
        name = payload.partition(" ")[0].encode()
        number = next((number for number, kept in self.log[name] if kept == payload), None)
        if self.ear.dialogue is not None:
            assert header["channel"] == f"broadcast:{name.decode()}"
            assert header.get("id") == (None if number is None else id_bytes(number).decode())
        if number is None:
            return
        assert (self.positions.get(name) or 0) < number, f"{payload} is not new to who is at {self.positions}"
        self.require_whole(name, number - 1)
        self.positions[name] = number
        self.in_gap.discard(name)

    def on_ack(self, name: bytes, id: str | None) -> None:
        if id is None:
            assert KEEPS[name] is None, "each channel with a history has a position"
            return
        if KEEPS[name] is None and number_of(id) < (self.positions.get(name) or 0):
            return  # its last message is gone: a worker that saw less than the client names what it saw
        assert (self.positions.get(name) or 0) <= number_of(id), "a position goes back"
        self.require_whole(name, number_of(id))
        self.positions[name] = number_of(id)
        self.in_gap.discard(name)

    def on_gap(self, name: bytes, since: str | None) -> None:
        assert KEEPS[name] is not None
        if since is not None:
            self.require_whole(name, number_of(since))
        self.in_gap.add(name)

    def require_whole(self, name: bytes, up_to: int) -> None:
        if KEEPS[name] is not None and self.ear.dialogue is not None and name not in self.in_gap:
            assert not self.missed(name, up_to), f"{self.missed(name, up_to)} missed in silence"


class Desk:
    """Serves the dialogue of a client: grants what it asks for.

    facilities: the channels of each. enter: begins to join channels.
    """

    settings = SimpleNamespace(max_facilities=100)

    def __init__(self, hub: Hub, subscriber: Subscriber, names: set[bytes]) -> None:
        self.positions = hub.positions
        self.leave_channels = subscriber.leave_channels
        self.facilities = {"chat": names}
        self.enter: Callable[[set[bytes]], Join]

    def names(self, granted: Granted) -> set[bytes]:
        return self.facilities[granted.facility]

    def target(self, granted: Granted) -> None: ...

    def decide(
        self,
        visitor: bytes,
        facility: str,
        query: str | None,
        on_decided: Callable[[Granted], None],
        *,
        is_urgent: bool = True,
    ) -> None:
        on_decided(Granted(facility, (), (), Wish((), (), False)))

    def join(self, connection: Ear, granted: Granted) -> Join:
        return self.enter(self.names(granted))


# Schedules


class Delivery(RuleBasedStateMachine):
    """Payloads say their channel and their number in it, so that "chat 3" must never follow "chat 4"."""

    shards = 1

    def __init__(self) -> None:
        super().__init__()
        self.redis = ModelRedis()
        self.hub = Hub()
        self.refused: set[tuple[str, bytes]] = set()  # commands, each for a channel
        self.later: deque[Callable[[], None]] = deque()
        reactor: Any = SimpleNamespace(
            settings=SimpleNamespace(prefix="p"), now=lambda: 0.0, call_later=lambda _, call: self.later.append(call)
        )
        self.subscriber = Subscriber(reactor, self.hub, on_request=nothing, on_receipt=nothing, on_listening=nothing)
        self.links: Any = self.subscriber.links
        self.published = dict.fromkeys(NAMES, 0)
        self.log: dict[bytes, list[tuple[int, str]]] = {name: [] for name in NAMES}
        self.clients: list[Client] = []
        self.gone: list[Client] = []
        self.owed: dict[Ear, set[str]] = defaultdict(set)
        self.begun_positions: dict[bytes, list[int]] = defaultdict(list)
        for shard in range(2):
            self.connect(shard)

    # Redis

    @rule(name=st.sampled_from(NAMES), kinds=st.lists(st.booleans(), min_size=1, max_size=4))
    def publish_some(self, name: bytes, kinds: list[bool]) -> None:
        for is_kept in kinds:
            self.publish(name, is_kept)

    @rule(name=st.sampled_from(NAMES))
    def publish_many(self, name: bytes) -> None:
        self.publish_some(name, [True] * 7)

    def publish(self, name: bytes, is_kept: bool) -> None:
        self.published[name] += 1
        payload = f"{name.decode()} {self.published[name]}"
        message = text(payload)
        if is_kept:
            number = self.redis.publish(name, message.payload, (KEEPS[name] or Keep(1, 60, is_history=False)).entries)
            message.id = id_bytes(number)
            self.log[name].append((number, payload))
        data = encode(message)
        listeners = [client.ear for client in self.clients if self.is_joined(client, name)]
        for link in self.links.links:
            if link is not None and name in link.subscribed:
                link.incoming.append(lambda link=link: self.arrive(link, name, data, listeners, payload))

    def is_joined(self, client: Client, name: bytes) -> bool:
        return any(name in names and join.done.done() for join, names in client.joins)

    def arrive(self, link: ModelLink, name: bytes, data: bytes, listeners: list[Ear], payload: str) -> None:
        if self.links.link(name) is link and self.hub.topics.get(name) and self.hub.topics[name].is_subscribed:
            for ear in listeners:
                if name in ear.channels and (decode(data).id is None):
                    self.owed[ear].add(payload)
        self.links.callbacks.on_message(name, data)

    @rule(shard=st.integers(0, 1), count=st.integers(1, 4))
    def redis_works(self, shard: int, count: int) -> None:
        link = self.links.links[shard]
        for _ in range(min(count, len(link.outgoing)) if link else 0):
            call = link.outgoing.popleft()
            reply = self.carry_out(shard, link, call.command)
            link.incoming.append(lambda call=call, reply=reply: call.on_reply(reply))

    def carry_out(self, shard: int, link: ModelLink, command: Any) -> Any:
        word, name = command[0], command[3] if command[0] == "EVAL" else command[1]
        if word != "UNSUBSCRIBE" and self.links.owner.get(name, 0) != shard:
            return ReplyError("MOVED 1 elsewhere")
        if (word, name) in self.refused:
            return ReplyError("NOPERM this user has no permissions")
        reply = self.redis.carry_out(link, command)
        if word == "EVAL":
            self.check_read(name, command[4], reply)
        return reply

    def check_read(self, name: bytes, since: bytes, reply: Any) -> None:
        """See that a gap has its reason."""
        keep = KEEPS[name]
        is_whole, end, entries, *next_read = reply
        if end and not entries and not next_read:
            self.begun_positions[name].append(number_of(end))
        if since and keep and not is_whole:
            position = number_of(since)
            newer = [number for number, _ in self.log[name] if number > position]
            assert len(newer) > keep.messages or any(at >= position for at in self.redis.losses[name]), "a needless gap"

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 3))
    def trim(self, name: bytes, count: int) -> None:
        self.redis.trim(name, count)

    @rule(name=st.sampled_from(NAMES), chance=st.integers(0, 2))
    def expire(self, name: bytes, chance: int) -> None:
        if chance == 0:
            self.redis.lose(name)

    @rule(chance=st.integers(0, 3))
    def wipe(self, chance: int) -> None:
        for name in NAMES if chance == 0 else ():
            self.redis.lose(name)

    @rule(word=st.sampled_from(["SUBSCRIBE", "EVAL"]), name=st.sampled_from([*NAMES, EVERYWHERE]), breaks=st.booleans())
    def refuse(self, word: str, name: bytes, breaks: bool) -> None:
        """Carry out such commands no more, as a Redis whose rights have changed, or which is busy."""
        self.refused.add((word, name))
        if breaks:
            shard = self.links.owner.get(name, 0)
            self.break_link(shard, 0)
            self.connect(shard)

    @rule()
    def allow(self) -> None:
        self.refused.clear()

    # The worker

    @rule()
    def time_passes(self) -> None:
        for _ in range(len(self.later)):
            self.later.popleft()()
        self.sort_out()

    @rule(shard=st.integers(0, 1), count=st.integers(1, 6))
    def loop_works(self, shard: int, count: int) -> None:
        link = self.links.links[shard]
        if link is None:
            return
        for _ in range(count):
            if link.is_closed or not link.incoming:
                break
            link.incoming.popleft()()
        self.links.callbacks.on_read()
        self.sort_out()

    @rule(
        v1=st.booleans(),
        names=st.sets(st.sampled_from(NAMES), min_size=1, max_size=2),
        history=st.sampled_from([0, 1, 2, 4, 100]),
        is_attached=st.booleans(),
    )
    def join_anew(self, v1: bool, names: set[bytes], history: int, is_attached: bool) -> None:
        self.come(dict.fromkeys(names), history, v1=v1, is_attached=is_attached)

    @rule(
        v1=st.booleans(),
        names=st.sets(st.sampled_from(NAMES), min_size=1, max_size=2),
        back=st.integers(0, 8),
        is_begun=st.booleans(),
    )
    def join_since(self, v1: bool, names: set[bytes], back: int, is_begun: bool) -> None:
        """Join with positions that a client may have, of this worker or of another one that is faster."""
        since: dict[bytes, int | None] = {}
        for name in names:
            known = [number for number, _ in self.log[name]]
            if is_begun:
                known = sorted({*known, *self.begun_positions[name]})
            since[name] = known[-1 - back] if back < len(known) else None
        self.come(since, 1, v1=v1)

    @precondition(lambda self: self.gone)
    @rule(who=st.integers(0, 9))
    def come_back(self, who: int) -> None:
        """Join with the very positions at which a socket ended."""
        old = self.gone[who % len(self.gone)]
        old.check()
        names = {name for _, names in old.joins for name in names}
        self.come({name: old.positions.get(name) for name in names}, 1)

    @precondition(lambda self: self.clients)
    @rule(
        who=st.integers(0, 9),
        names=st.sets(st.sampled_from(NAMES), min_size=1, max_size=2),
        history=st.sampled_from([0, 2]),
    )
    def join_further(self, who: int, names: set[bytes], history: int) -> None:
        """Subscribe to a further facility, which may share channels with others."""
        client = self.clients[who % len(self.clients)]
        if client.ear.dialogue is None or client.ear.sock is None:
            return
        if client.ear.is_blocked and not names.isdisjoint(client.positions):
            return  # who comes back to a channel has read what it was sent of it
        facility = next(
            name for number in itertools.count() if (name := f"further {number}") not in client.desk.facilities
        )
        client.desk.facilities[facility] = names
        client.desk.enter = lambda names: self.enter(client, names, history)
        client.say("subscribe", facility)
        join, _ = client.joins[-1]
        if join.done.done() and join.done.exception():
            client.joins.pop()  # refused: it stays as it was
            del client.desk.facilities[facility]
        self.sort_out()

    def come(
        self, since: dict[bytes, int | None], history: int, *, v1: bool = True, is_attached: bool = True
    ) -> Client:
        """Begin a client's first join, at positions or without one."""
        desk = Desk(self.hub, self.subscriber, set(since))
        client = Client(Ear(v1=v1, is_attached=is_attached, desk=desk), desk, self.log)
        client.ear.when_left = self.subscriber.leave
        client.positions.update(since)
        self.clients.append(client)
        self.enter(client, set(since), history)
        self.sort_out()
        return client

    def enter(self, client: Client, names: set[bytes], history: int) -> Join:
        """Join those of a facility's channels that the client does not have."""
        join = Join(client.ear)
        client.joins.append((join, names))
        arrivals = []
        for name in sorted(names.difference(client.ear.channels)):
            position = client.positions.get(name)
            topic = self.hub.topics.get(name) or Topic(
                name, Channel("broadcast", "", name.decode()), history=KEEPS[name], slow="close"
            )
            count = history if position is None else PAGE_MESSAGES
            arrivals.append(Arrival(join, topic, None if position is None else id_bytes(position), count))
        self.subscriber.join(join, arrivals)
        return join

    @precondition(lambda self: self.clients)
    @rule(who=st.integers(0, 9))
    def leave(self, who: int) -> None:
        ear = self.clients[who % len(self.clients)].ear
        self.subscriber.leave(ear)
        ear.has_left = True
        self.sort_out()

    @precondition(lambda self: any(len(client.joins) > 1 for client in self.clients))
    @rule()
    def unsubscribe(self) -> None:
        client = next(client for client in self.clients if len(client.joins) > 1)
        client.joins.pop(0)
        facility = next(iter(client.desk.facilities))
        client.say("unsubscribe", facility)
        del client.desk.facilities[facility]
        client.check()
        client.in_gap.intersection_update(client.ear.channels)

    @precondition(lambda self: self.clients)
    @rule(who=st.integers(0, 9), names=st.sets(st.sampled_from(NAMES), min_size=1, max_size=2))
    def regroup(self, who: int, names: set[bytes]) -> None:
        """Grant other channels of the first facility; a client forgets what it knows of those that it has lost."""
        client = self.clients[who % len(self.clients)]
        if client.ear.dialogue is None or client.ear.outbox is not None or not client.desk.facilities:
            return
        client.check()
        facility, former = next(iter(client.desk.facilities.items()))
        client.desk.facilities[facility] = names
        client.desk.enter = lambda names: self.enter(client, names, 0)
        for name in former.difference(*client.desk.facilities.values()):
            client.forget(name)
            self.owed[client.ear] = {payload for payload in self.owed[client.ear] if not is_of(payload, name)}
        if names != former:
            client.acked.pop(facility, None)  # which told of the former ones
        (join, _), number = client.joins[0], len(client.joins)
        client.ear.dialogue.regroup()
        if len(client.joins) > number:
            join, _ = client.joins.pop()
        elif (
            not join.done.done() and join not in self.subscriber._joins._under_way
        ):  # all that it was to bring has been left
            join.done.set_result(None)
        client.joins[0] = join, names
        self.sort_out()

    @precondition(lambda self: any(client.ear.sock is None for client in self.clients))
    @rule()
    def attach(self) -> None:
        """Answer the handshakes whose joins are done."""
        for client in self.clients:
            if all(join.done.done() for join, _ in client.joins):
                client.ear.be_attached()

    @precondition(lambda self: self.clients)
    @rule(who=st.integers(0, 9))
    def block(self, who: int) -> None:
        self.clients[who % len(self.clients)].ear.is_blocked = True

    @precondition(lambda self: any(client.ear.is_blocked for client in self.clients))
    @rule()
    def unblock(self) -> None:
        next(client for client in self.clients if client.ear.is_blocked).ear.unblock()

    def sort_out(self) -> None:
        """Put those who were refused or closed apart."""
        for client in list(self.clients):
            for join, _ in client.joins:
                if join.done.done() and (error := join.done.exception()):
                    assert isinstance(error, Unavailable)
                    self.subscriber.leave(client.ear)
                    client.ear.has_left = True
            if client.ear.has_left:
                assert all(join.done.done() for join, _ in client.joins), "whoever waits must not wait in vain"
                if not any(join.done.exception() for join, _ in client.joins):
                    client.ear.be_attached()
                client.ear.unblock()
                self.clients.remove(client)
                self.gone.append(client)
        self.gone = self.gone[-5:]

    # Between them

    @rule()
    def settle(self) -> None:
        while any(link and (link.outgoing or link.incoming) for link in self.links.links) or self.links.must_look:
            for shard in range(2):
                self.redis_works(shard, 100)
                self.loop_works(shard, 100)
            self.look()

    @rule(shard=st.integers(0, 1), chance=st.integers(0, 3))
    def break_link(self, shard: int, chance: int) -> None:
        link = self.links.links[shard]
        if link is None or chance or shard >= self.shards:
            return
        link.is_closed = True
        self.links.links[shard] = None
        self.links.callbacks.on_changed()
        self.sort_out()

    @rule(shard=st.integers(0, 1))
    def connect(self, shard: int) -> None:
        if self.links.links[shard] is None:
            self.links.links[shard] = ModelLink()
            self.links.callbacks.on_changed()
            self.sort_out()

    @precondition(lambda self: self.shards > 1)
    @rule(name=st.sampled_from(NAMES))
    def move(self, name: bytes) -> None:
        """Move a channel to the other shard, with its stream; who is subscribed is told."""
        old = self.links.links[self.links.owner[name]]
        self.links.owner[name] = 1 - self.links.owner[name]
        if old is not None and name in old.subscribed:
            old.subscribed.discard(name)
            old.incoming.append(lambda: self.links.callbacks.on_unsubscribed(name))

    @rule()
    def look(self) -> None:
        """Let the worker see what is where."""
        if self.links.must_look:
            self.links.must_look = False
            self.links.known.update(self.links.owner)
            self.links.callbacks.on_changed()
            self.sort_out()

    @rule(
        name=st.sampled_from(NAMES),
        breaks=st.booleans(),
        turns=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 8)), min_size=1, max_size=4),
    )
    def publish_amid(self, name: bytes, breaks: bool, turns: list[tuple[int, int, int]]) -> None:
        """Publish between the steps of whatever is under way, which may be a recovery."""
        shard = self.links.owner[name]
        if breaks:
            self.break_link(shard, 0)
        self.connect(shard)
        for commands_done, published, replies_read in turns:
            self.redis_works(shard, commands_done)
            for _ in range(published):
                self.publish(name, True)
            self.loop_works(shard, replies_read)

    # What must hold

    @invariant()
    def everybody_gets_what_is_due(self) -> None:
        for client in self.clients + self.gone:
            client.check()

    def teardown(self) -> None:
        self.allow()
        for shard in range(2):
            self.connect(shard)
        self.settle()
        self.time_passes()
        self.settle()
        while any(client.ear.is_blocked or client.ear.sock is None for client in self.clients):
            for client in self.clients:
                client.ear.be_attached()
                client.ear.unblock()
            self.settle()
        self.everybody_gets_what_is_due()
        assert self.subscriber.is_ready
        assert not self.subscriber._joins._under_way
        for client in self.clients:
            self.check_at_the_end(client)
        listened_to = {name for client in self.clients for name in client.ear.channels}
        assert set(self.hub.topics) == listened_to
        subscribed = [link.subscribed for link in self.links.links]
        assert all(name in subscribed[self.links.owner.get(name, 0)] for name in {*listened_to, EVERYWHERE})
        if self.shards == 1:
            assert subscribed[0] == {*listened_to, EVERYWHERE}

    def check_at_the_end(self, client: Client) -> None:
        lost = self.owed[client.ear] - client.seen
        assert not lost, f"{sorted(lost)} lost"
        names = {name for _, names in client.joins for name in names}
        assert set(client.ear.channels) == names
        if client.ear.dialogue is not None:
            assert client.acked == client.desk.facilities, "an ack names all channels of its facility"
        assert not client.in_gap, "after a gap it is told where it is"
        for name in names:
            if KEEPS[name] is not None:
                client.require_whole(name, self.redis.clock)
            elif stream := self.redis.streams.get(name):
                position = client.positions.get(name)
                assert position is None or stream.last <= position, "the last message is missing"


class ShardedDelivery(Delivery):
    """The same, while channels move between two shards."""

    shards = 2


def run(machine: Any, examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=examples, stateful_step_count=60, deadline=None, report_multiple_bugs=False),
    )


def test_nothing_is_lost_doubled_or_swapped_by_joins_leaves_and_breaks() -> None:
    run(Delivery, EXAMPLES)


def test_nothing_is_lost_doubled_or_swapped_when_channels_move() -> None:
    run(ShardedDelivery, EXAMPLES)


# One schedule each


@pytest.mark.parametrize("is_attached", [True, False])
def test_a_link_that_breaks_amid_a_replay_closes_the_socket_also_one_whose_handshake_is_just_answered(
    is_attached: bool,
) -> None:
    state = Delivery()
    state.publish_many(b"history")
    client = state.come({b"history": None}, 100, is_attached=is_attached)
    client.ear.is_blocked = True
    state.settle()
    assert client.joins[0][0].done.done()
    state.break_link(0, 0)
    assert client.ear.close_code == 1013
    assert 0 < len(client.ear.heard) < 7
    assert state.hub.topics == {}


def test_a_replay_waits_for_a_peer_that_does_not_read() -> None:
    state = Delivery()
    state.publish_many(b"history")
    client = state.come({b"history": None}, 100)
    client.ear.is_blocked = True
    state.settle()
    waiting = client.ear.outbox
    assert waiting is not None
    before = waiting.bytes
    state.settle()
    assert (client.ear.outbox, waiting.bytes) == (waiting, before)
    state.publish_many(b"history")
    client.ear.unblock()
    state.settle()
    assert client.ear.heard == [f"history {number}" for number in range(1, 15)]
    client.check()
    assert client.acked == {"chat": {b"history"}}


def test_who_shares_a_channel_with_a_facility_that_is_left_on_its_way_in_is_acked() -> None:
    state = Delivery()
    client = state.come({b"last": None}, 1)
    state.settle()
    for names in ({b"history", b"short"}, {b"history"}):
        state.join_further(0, names, 0)
    client.say("unsubscribe", "further 0")
    state.settle()
    client.check()
    assert client.acked == {"chat": {b"last"}, "further 1": {b"history"}}
    assert state.subscriber._joins._under_way == set()


@pytest.mark.parametrize("published", [1, 7])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 11, 12])
def test_who_joins_gets_as_many_of_the_newest_as_it_wants(count: int, published: int) -> None:
    """Also where they are more than is read at once, and while others come and the oldest go."""
    state = Delivery()
    for _ in range(2):
        state.publish_many(b"history")
    client = state.come({b"history": None}, count)
    state.redis_works(0, 100)
    state.loop_works(0, 100)
    state.publish_some(b"history", [True] * published)
    state.settle()
    last = 14 + published
    assert client.ear.heard == [f"history {number}" for number in range(max(15 - count, last - 12), last + 1)]


def test_those_who_want_the_same_share_a_read_that_is_under_way() -> None:
    state = Delivery()
    state.publish_many(b"history")
    clients = [state.come({b"history": None}, count) for count in (9, 9, 1)]
    reads = [call.command for call in state.links.links[0].outgoing if call.command[0] == "EVAL"]
    assert [command[5] for command in reads] == [9, 1]
    state.settle()
    for client, count in zip(clients, (7, 7, 1), strict=True):
        assert client.ear.heard == [f"history {number}" for number in range(8 - count, 8)]


@pytest.mark.parametrize(("word", "name"), [("SUBSCRIBE", b"history"), ("EVAL", b"history"), ("SUBSCRIBE", EVERYWHERE)])
def test_what_redis_refuses_after_a_break_is_tried_again_and_we_are_not_ready_until_then(
    word: str, name: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    state = Delivery()
    client = state.come({b"history": None}, 1)
    state.settle()
    assert state.subscriber.is_ready
    state.refuse(word, name, breaks=True)
    assert not state.subscriber.is_ready
    for _ in range(3):
        state.settle()
        state.publish(b"history", is_kept=True)
        state.settle()
        assert not state.subscriber.is_ready
        state.time_passes()
    state.allow()
    state.settle()
    assert state.subscriber.is_ready
    assert client.ear.heard == ["history 1", "history 2", "history 3"]
    assert [notice["type"] for notice in client.ear.notices] == ["ack"]
    assert caplog.text.count("NOPERM") == 1
    assert "b'" not in caplog.text
    assert state.links.links[0].subscribed == {b"history", EVERYWHERE}
    state.refuse(word, name, breaks=True)
    state.settle()
    state.leave(0)
    state.settle()
    assert state.links.links[0].subscribed <= {EVERYWHERE}


# The model itself, which tests/faults/test_schedules.py has, too

operations = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.lists(st.integers(1, 4), min_size=1, max_size=8)),
        st.tuples(
            *(st.just("read"), st.sampled_from([*[0] * 5, 1, 2, 4, 9]), st.sampled_from([0, 1, 4, 100])),
            *(st.sampled_from([20, 60, 10_000]), st.sampled_from([*[0] * 5, 1, 2, 4, 9])),
        ),
        st.tuples(st.just("trim"), st.integers(1, 3)),
        st.tuples(st.just("lose")),
    ),
    max_size=25,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations, st.sampled_from([Keep(1, 60, is_history=False), Keep(5, 60)]), st.booleans())
def test_the_model_keeps_and_reads_as_redis_does(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, given_operations: Any, keep: Keep, has_history: bool
) -> None:
    """Ids differ, so they are compared by their place among all that there were."""
    model, name = ModelRedis(), b"model"
    theirs: list[bytes] = []  # ids of Redis, in their order
    ours: list[bytes] = []
    with redis_server.client() as client:
        client.delete(name)
        for word, *arguments in given_operations:
            if word == "publish":
                for size in arguments[0]:
                    message = Message(b"x" * size * 10, True)
                    client.execute_command(*commands.publish_command(name, message, keep))
                    theirs.append(client.xinfo_stream(name)["last-generated-id"])
                    ours.append(id_bytes(model.publish(name, b"".join(envelope(message)), keep.entries)))
            elif word == "read":
                back, count, page_bytes, before_back = arguments
                options: dict[str, Any] = {"count": max(count, 1) if back else count, "max_bytes": page_bytes}
                read = partial(commands.read_command, name, keep if has_history else None, **options)
                reply = client.execute_command(*read(since=nth(theirs, back), before=nth(theirs, before_back)))
                since, count, _, *others = read(since=nth(ours, back), before=nth(ours, before_back))[4:]
                expected = model.read(name, since, count, *others)
                if reply[1] and reply[1] not in theirs:  # it was begun
                    theirs.append(reply[1])
                    ours.append(expected[1])
                assert named(reply, theirs) == named(expected, ours)
            elif word == "trim":
                model.trim(name, arguments[0])
                if len(entries := client.xrange(name)) > arguments[0]:
                    client.xtrim(name, maxlen=len(entries) - arguments[0], approximate=False)
            else:
                model.lose(name)
                client.delete(name)
                now = client.time()
                wait_until(lambda now=now: client.time() > (now[0], now[1] + 1000))  # a new stream has later ids


def nth(ids: list[bytes], back: int) -> bytes | None:
    """Return an id, counted from the newest on."""
    return ids[-back] if 0 < back <= len(ids) else None


def named(reply: Any, ids: list[bytes]) -> Any:
    """Return a reply with the places of its ids, and without the fields that only the script reads."""
    is_whole, end, entries, *next_read = reply
    found = [(ids.index(id), fields[1]) for id, fields in entries]
    before, count = (ids.index(next_read[0]), next_read[1]) if next_read else (None, 0)
    return is_whole, ids.index(end) if end else None, found, before, count
