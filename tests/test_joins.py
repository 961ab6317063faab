"""The join rule as a property: whatever happens, a client misses nothing unannounced, and sees nothing twice.

Hub and subscriber run against a model of Redis, in one thread of execution. There are two shards, between which
channels move. Clients block, so that what is stored comes in pages; links break at any moment; streams lose their old
entries, expire, and begin again.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from hiredis import ReplyError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from django_wsredis import commands
from django_wsredis.channels import Channel
from django_wsredis.conf import Keep
from django_wsredis.exceptions import Unavailable
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

    def succeeded(self, link: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber_module, "make_links", ModelLinks)
    monkeypatch.setattr(commands, "PAGE_MESSAGES", PAGE_MESSAGES)
    monkeypatch.setattr(commands, "PAGE_BYTES", PAGE_BYTES)
    for argument, value in (("count", PAGE_MESSAGES), ("max_bytes", PAGE_BYTES)):
        monkeypatch.setitem(commands.read_command.__kwdefaults__, argument, value)  # type: ignore[arg-type]


# Clients


class Client:
    """What a browser knows of one socket, and whether the server keeps its word."""

    def __init__(self, ear: Ear, log: dict[bytes, list[tuple[int, str]]]) -> None:
        self.ear = ear
        self.log = log  # all that was ever kept, by channel: number and payload
        self.joins: list[tuple[Join, dict[bytes, int | None]]] = []
        self.positions: dict[bytes, int | None] = {}
        self.in_gap: set[bytes] = set()
        self.is_acked: set[bytes] = set()
        self.read = 0
        self.seen: set[str] = set()

    @property
    def is_here(self) -> bool:
        return not self.ear.has_left

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
                    for channel, id in header["channels"].items():
                        self.on_ack(channel.removeprefix("broadcast:").encode(), id)
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
        self.is_acked.add(name)
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


# Schedules


class Delivery(RuleBasedStateMachine):
    """Payloads say their channel and their number in it, so that "chat 3" must never follow "chat 4"."""

    shards = 1

    def __init__(self) -> None:
        super().__init__()
        self.redis = ModelRedis()
        self.hub = Hub()
        reactor: Any = SimpleNamespace(settings=SimpleNamespace(prefix="p"), now=lambda: 0.0)
        self.subscriber = Subscriber(reactor, self.hub)
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
        return any(name in since and join.done.done() for join, since in client.joins)

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
        reply = self.redis.carry_out(link, command)
        if word == "EVAL":
            self.check_read(name, command[4], reply)
        return reply

    def check_read(self, name: bytes, since: bytes, reply: Any) -> None:
        """See that a gap has its reason."""
        keep = KEEPS[name]
        is_whole, end, entries = reply
        if end and not entries:
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

    # The worker

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
        self.join(Client(Ear(v1=v1, is_attached=is_attached), self.log), dict.fromkeys(names), history)

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
        self.join(Client(Ear(v1=v1), self.log), since, 1)

    @precondition(lambda self: self.gone)
    @rule(who=st.integers(0, 9))
    def come_back(self, who: int) -> None:
        """Join with the very positions at which a socket ended."""
        old = self.gone[who % len(self.gone)]
        old.check()
        names = {name for _, since in old.joins for name in since}
        self.join(Client(Ear(v1=True), self.log), {name: old.positions.get(name) for name in names}, 1)

    @precondition(lambda self: self.clients)
    @rule(who=st.integers(0, 9), name=st.sampled_from(NAMES), history=st.sampled_from([0, 2]))
    def join_further(self, who: int, name: bytes, history: int) -> None:
        client = self.clients[who % len(self.clients)]
        if client.ear.dialogue is not None and client.ear.sock is not None and name not in client.ear.channels:
            self.join(client, {name: client.positions.get(name)}, history)

    def join(self, client: Client, since: dict[bytes, int | None], history: int) -> None:
        is_new = client not in self.clients
        if is_new:
            client.ear.when_left = self.subscriber.leave
            self.clients.append(client)
        client.positions.update(since)
        join = Join(client.ear, "chat")
        client.joins.append((join, since))
        arrivals = []
        for name, position in sorted(since.items()):
            topic = self.hub.topics.get(name) or Topic(
                name, Channel("broadcast", "", name.decode()), history=KEEPS[name], slow="close"
            )
            count = history if position is None else PAGE_MESSAGES
            arrivals.append(Arrival(join, topic, None if position is None else id_bytes(position), count))
        self.subscriber.join(join, arrivals)
        if not is_new and join.done.done() and join.done.exception():
            client.joins.pop()  # refused: it stays as it was
        self.sort_out()

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
        _, since = client.joins.pop(0)
        self.subscriber.leave_channels(client.ear, list(since))
        client.check()
        for name in since:
            client.is_acked.discard(name)
            client.in_gap.discard(name)

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
        for shard in range(2):
            self.connect(shard)
        self.settle()
        while any(client.ear.is_blocked or client.ear.sock is None for client in self.clients):
            for client in self.clients:
                client.ear.be_attached()
                client.ear.unblock()
            self.settle()
        self.everybody_gets_what_is_due()
        assert self.subscriber.is_ready
        assert not self.subscriber._joining
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
        names = {name for _, since in client.joins for name in since}
        assert set(client.ear.channels) == names
        assert not client.in_gap, "after a gap it is told where it is"
        for name in names:
            if client.ear.dialogue is not None:
                assert name in client.is_acked
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
    client = Client(Ear(v1=True, is_attached=is_attached), state.log)
    client.ear.is_blocked = True
    state.join(client, {b"history": None}, 100)
    state.settle()
    assert client.joins[0][0].done.done()
    state.break_link(0, 0)
    assert client.ear.close_code == 1013
    assert 0 < len(client.ear.heard) < 7
    assert state.hub.topics == {}


def test_a_replay_waits_for_a_peer_that_does_not_read() -> None:
    state = Delivery()
    state.publish_many(b"history")
    client = Client(Ear(v1=True), state.log)
    client.ear.is_blocked = True
    state.join(client, {b"history": None}, 100)
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
    assert client.is_acked == {b"history"}


# The model itself, which tests/faults/test_schedules.py has, too

operations = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 4)),
        st.tuples(st.just("read"), st.integers(0, 9), st.sampled_from([0, 1, 3, 100]), st.sampled_from([60, 10_000])),
        st.tuples(st.just("trim"), st.integers(1, 3)),
        st.tuples(st.just("lose")),
    ),
    max_size=25,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations, st.sampled_from([Keep(1, 60, is_history=False), Keep(3, 60)]), st.booleans())
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
                message = Message(b"x" * arguments[0] * 10, True)
                client.execute_command(*commands.publish_command(name, message, keep))
                theirs.append(client.xinfo_stream(name)["last-generated-id"])
                ours.append(id_bytes(model.publish(name, b"".join(envelope(message)), keep.entries)))
            elif word == "read":
                back, count, page_bytes = arguments
                options: dict[str, Any] = {"count": max(count, 1) if back else count, "max_bytes": page_bytes}
                their_since = theirs[-back] if 0 < back <= len(theirs) else None
                our_since = ours[-back] if 0 < back <= len(ours) else None
                history = keep if has_history else None
                reply = client.execute_command(*commands.read_command(name, history, since=their_since, **options))
                since, count, _, *limits = commands.read_command(name, history, since=our_since, **options)[4:]
                expected = model.read(name, since, count, *limits)
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


def named(reply: Any, ids: list[bytes]) -> Any:
    """Return a reply with the places of its ids, and without the fields that only the script reads."""
    is_whole, end, entries = reply
    return is_whole, ids.index(end) if end else None, [(ids.index(id), fields[1]) for id, fields in entries]
