"""The join rule over several workers: whoever comes back, at whichever, sees each message once and in order.

Two workers' hubs and subscribers are driven against a model of Redis, whose streams are trimmed and forgotten, and to
which each worker has one link. There is one thread of execution, no process and no time: a schedule of bytes says who
does his next step. The verifier of the trials judges.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from websockets.protocol import CLIENT, Protocol

from django_wsredis import commands
from django_wsredis.channels import Channel, redis_name
from django_wsredis.commands import PAGE_MESSAGES
from django_wsredis.conf import Keep
from django_wsredis.exceptions import Unavailable
from django_wsredis.loop import subscriber as subscriber_module
from django_wsredis.loop.dialogue import Dialogue
from django_wsredis.loop.hub import Hub
from django_wsredis.loop.subscriber import Subscriber
from django_wsredis.loop.topic import Arrival, Join, Topic
from django_wsredis.loop.websocket import WebSocketConnection
from django_wsredis.messages import V1, Message, decode, encode, envelope

from ..ears import listening
from ..models import ModelLink, ModelRedis, id_bytes
from .plan import Event, Sent, channel_of, id_key
from .verifier import Result, verify

KEEP = Keep(messages=5, seconds=60)
FACILITIES = ("a", "b")
WORKERS, CLIENTS = 2, 6
PAGE = 2  # entries of one read
SCHEDULES = 3000


def name_of(facility: str) -> bytes:
    return redis_name("p", Channel("broadcast", "", facility))


# Workers


class Links:
    """In the place of loop/links.py: one link, which the schedule cuts and connects."""

    is_sharded = False

    def __init__(
        self, reactor: Any, *, on_message: Any, on_read: Any, on_changed: Callable[[], None], on_unsubscribed: Any
    ) -> None:
        self.on_message = on_message
        self.on_read = on_read
        self.on_changed = on_changed
        self.current: ModelLink | None = None
        self.has_tried = threading.Event()

    @property
    def all_up(self) -> bool:
        return self.current is not None

    def link(self, name: bytes) -> ModelLink | None:
        return self.current

    def moved(self, link: ModelLink | None = None) -> None:
        raise AssertionError("nothing moves here")

    def connect(self) -> None:
        if self.current is None:
            self.current = ModelLink()
            self.on_changed()

    def cut(self) -> None:
        if self.current is not None:
            self.current.is_closed = True
            self.current = None
            self.on_changed()

    def work(self, count: int) -> None:
        """Let the worker read from its link."""
        for _ in range(count):
            if self.current is None or not self.current.incoming:
                break
            self.current.incoming.popleft()()
        self.on_read()


@pytest.fixture(autouse=True, scope="module")
def model_links() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(subscriber_module, "make_links", Links)
        monkeypatch.setattr(commands, "PAGE_MESSAGES", PAGE)
        yield


def nothing(*_: object) -> None:
    pass


class Reactor:
    """What connections and subscribers need of theirs. Nothing happens by itself."""

    def __init__(self) -> None:
        self.settings = SimpleNamespace(
            ping_interval=20.0, ping_timeout=20.0, prefix="p", url="redis://model", compression=0,
            max_message_bytes=1024, max_outbox_bytes=1024 * 1024,
        )  # fmt: skip

    def now(self) -> float:
        return 0.0

    def timer(self, *_: float) -> Any:
        return SimpleNamespace(start=nothing, stop=nothing, close=nothing)

    io = timer
    call_later = call_soon = nothing
    closes: Counter[int] = Counter()


class Worker:
    def __init__(self) -> None:
        self.reactor: Any = Reactor()
        self.hub = Hub()
        self.subscriber = Subscriber(
            self.reactor, self.hub, on_request=nothing, on_receipt=nothing, on_listening=nothing
        )
        self.links: Any = self.subscriber.links

    def join(self, facility: str, since: bytes | None, history: int) -> Join:
        """Do what the loop does for a handshake."""
        owner: Any = SimpleNamespace(on_leave=self.subscriber.leave, on_gone=nothing, on_waiting=nothing)
        connection = WebSocketConnection(self.reactor, owner, framing=V1)
        name = name_of(facility)
        desk = listening(name, positions=self.hub.positions)
        granted: Any = SimpleNamespace(facility=facility, groups=None)
        connection.dialogue = Dialogue(desk, connection, granted)
        join = Join(connection)
        topic = self.hub.topics.get(name) or Topic(name, Channel("broadcast", "", facility), history=KEEP, slow="close")
        count = history if since is None else PAGE_MESSAGES
        self.subscriber.join(join, [Arrival(join, topic, since, count)])
        return join


# Clients


class Wire:
    """A socket that takes everything."""

    def __init__(self) -> None:
        self.client = Protocol(CLIENT)
        self.texts: deque[str] = deque()

    def send(self, data: bytes | memoryview) -> int:
        self.client.receive_data(bytes(data))
        self.texts += [bytes(frame.data).decode() for frame in self.client.events_received() if frame.opcode == 1]
        return len(data)

    def sendmsg(self, buffers: list[bytes]) -> int:
        return sum(map(self.send, buffers))

    def fileno(self) -> int:
        return 0

    def close(self) -> None:
        pass


class Client:
    """A browser with wsredis.js, at one facility."""

    def __init__(self, facility: str) -> None:
        self.facility = facility
        self.channel = channel_of(facility)
        self.position: bytes | None = None
        self.events: list[Event] = []
        self._join: Join | None = None
        self._wire: Wire | None = None
        self._wanted = 0
        self._there: set[int] = set()  # what the stream held of what it wanted when it came first
        self.owed: set[int] = set()  # what it did not get of that up to its first ack

    def come(self, worker: Worker, history: int, newest: list[int]) -> None:
        """Connect, unless it is there."""
        if self._join is not None:
            return
        if self.position is None:
            self._wanted, self._there = history, set(newest[len(newest) - history :] if history else [])
        self._join = worker.join(self.facility, self.position, history)

    def read(self, count: int, held: set[int]) -> None:
        """Go on: see whether the handshake is over, read some messages, see whether the server has closed."""
        join = self._join
        if join is None or not join.done.done():
            return
        if error := join.done.exception():
            assert isinstance(error, Unavailable)
            join.connection.abort()
            self._join = None
            return
        if self._wire is None:
            self._wire = Wire()
            join.connection.attach(self._wire)  # type: ignore[arg-type]
        for _ in range(min(count, len(self._wire.texts))):
            self._on_text(self._wire.texts.popleft(), held)
        if not self._wire.texts and not join.connection.is_open:
            self.go()

    def go(self) -> None:
        """Lose the socket, with all that was not read."""
        if self._join is not None:
            self._join.connection.abort()
        self._join = self._wire = None

    def _on_text(self, text: str, held: set[int]) -> None:
        header, _, payload = text.partition("\n")
        given = json.loads(header)
        match given.get("type", "message"):
            case "message":
                self._see("message", given["id"], int(payload))
                self.position = given["id"].encode()
            case "gap":
                self._see("gap", given["since"])
            case "ack":
                position = given["channels"][self.channel]
                assert self.position is None or id_key(position) >= id_key(self.position.decode())
                self._owe(held)
                self._see("ack", position)
                self.position = position.encode()

    def _see(self, kind: str, id: str, number: int = -1) -> None:
        self.events.append(Event(kind, self.channel, id, number, 0.0))

    def _owe(self, held: set[int]) -> None:
        """At its first ack: it got as many as it wanted, or all that there was and still is, or that comes live."""
        got = {event.number for event in self.events}
        if len(got) < self._wanted and all(event.kind != "ack" for event in self.events):
            self.owed = (self._there & held) - got


# Schedules


class World:
    """Everybody; each action is one step of somebody."""

    def __init__(self) -> None:
        self.redis = ModelRedis()
        self.workers = [Worker() for _ in range(WORKERS)]
        self.clients = [Client(FACILITIES[number % len(FACILITIES)]) for number in range(CLIENTS)]
        self.counts = dict.fromkeys(FACILITIES, 0)
        self.has_forgotten = False

    def run(self, schedule: bytes) -> Result:
        for step, choice in zip(schedule[::2], schedule[1::2], strict=False):
            if action := ACTIONS[step % len(ACTIONS)]:
                note(f"{action.__name__}({choice})")
                action(self, choice)
        self.settle()
        for client in self.clients:
            kinds = {event.kind for event in client.events}
            assert "gap" in kinds or client.owed <= {event.number for event in client.events}
        sent = {channel_of(name): [Sent(n, 0.0, 0.0) for n in range(count)] for name, count in self.counts.items()}
        stored = {
            channel_of(name): {id_bytes(id).decode(): number for id, number in self.held(name).items()}
            for name in FACILITIES
        }
        return verify(sent, stored, [client.events for client in self.clients], began_at=0.0)

    def held(self, facility: str) -> dict[int, int]:
        """Return what the stream holds, {number of the id: number of the message}."""
        stream = self.redis.streams.get(name_of(facility))
        return {id: int(decode(data).data) for id, data, _ in stream.entries} if stream else {}

    def numbers(self, facility: str) -> list[int]:
        return list(self.held(facility).values())

    # Actions

    def publish(self, choice: int) -> None:
        facility = FACILITIES[choice % 2]
        for _ in range(1 + choice // 2 % 4):
            self._publish(name_of(facility), str(self.counts[facility]))
            self.counts[facility] += 1

    def _publish(self, name: bytes, payload: str) -> None:
        message = Message(payload.encode(), True)
        message.id = id_bytes(self.redis.publish(name, b"".join(envelope(message)), KEEP.entries))
        data = encode(message)
        for links in [worker.links for worker in self.workers]:
            if links.current is not None and name in links.current.subscribed:
                links.current.incoming.append(lambda links=links: links.on_message(name, data))

    def redis_works(self, choice: int) -> None:
        link = self.workers[choice % WORKERS].links.current
        for _ in range(1 + choice // 2 % 4):
            if link is not None and link.outgoing:
                call = link.outgoing.popleft()
                reply = self.redis.carry_out(link, call.command)
                link.incoming.append(lambda call=call, reply=reply: call.on_reply(reply))

    def worker_works(self, choice: int) -> None:
        self.workers[choice % WORKERS].links.work(1 + choice // 2 % 6)

    def come(self, choice: int) -> None:
        client = self.clients[choice // 2 % CLIENTS]
        client.come(self.workers[choice % WORKERS], choice // 64, self.numbers(client.facility))

    def read(self, choice: int) -> None:
        client = self.clients[choice % CLIENTS]
        client.read(choice // 8, set(self.numbers(client.facility)))

    def go(self, choice: int) -> None:
        self.clients[choice % CLIENTS].go()

    def cut(self, choice: int) -> None:
        self.workers[choice % WORKERS].links.cut()

    def connect(self, choice: int) -> None:
        self.workers[choice % WORKERS].links.connect()

    def trim(self, choice: int) -> None:
        """Let what is old expire."""
        if stream := self.redis.streams.get(name_of(FACILITIES[choice % 2])):
            stream.entries = stream.entries[max(0, len(stream.entries) - choice // 2 % 6) :]

    def forget(self, choice: int) -> None:
        """Let the stream expire, or Redis lose its data."""
        if self.redis.streams.pop(name_of(FACILITIES[choice % 2]), None):
            self.has_forgotten = True

    def settle(self) -> None:
        """Let everybody do all that there is to do, and everybody come back."""
        for worker in self.workers:
            worker.links.connect()
        for _ in range(3):  # who was closed comes again
            for number, client in enumerate(self.clients):
                client.come(self.workers[number % WORKERS], 0, [])
            while any(worker.links.current.outgoing or worker.links.current.incoming for worker in self.workers):
                for number in range(WORKERS):
                    self.redis_works(number + 6)
                    self.worker_works(number + 10)
            for client in self.clients:
                client.read(1000, set(self.numbers(client.facility)))
        assert all(worker.subscriber.is_ready for worker in self.workers)


# some are done more often than others; first comes what hypothesis leaves of a schedule that it makes simple
ACTIONS: list[Callable[[World, int], None] | None] = [
    None,
    *(World.publish, World.redis_works, World.worker_works, World.come, World.read, World.connect) * 3,
    *(World.publish, World.redis_works, World.worker_works, World.read) * 2,
    *(World.go, World.go, World.cut, World.trim, World.forget),
]


@settings(max_examples=SCHEDULES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(min_size=100, max_size=400))
def test_whatever_happens_each_sees_every_message_once_and_in_order_or_is_told_of_a_gap(schedule: bytes) -> None:
    world = World()
    result = world.run(schedule)
    assert (result.lost, result.forgotten, result.doubled, result.swapped) == (0, 0, 0, 0)
    assert result.needless == 0 or world.has_forgotten
