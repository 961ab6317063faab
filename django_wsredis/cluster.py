"""A Redis cluster: which master serves which channel, and commands that find their way there.

redis-py's own client of a cluster is not used: its pipelines repeat a command whose reply was lost, and so could
deliver a message twice; and it follows no ASK to a node that serves no slot yet, with which resharding begins.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, groupby
from typing import Any, TypeAlias

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from .commands import Command
from .redis_url import Address

MAX_SHARES = 3  # into which the time is divided that is left to ask nodes for the map
PAUSE_SECONDS = 0.02  # while a slot moves: a script whose keys are on both sides must wait, and nodes may disagree

# Returns a client of one node, which waits so many seconds for a connection and for each reply, None: as long as usual.
MakeClient: TypeAlias = Callable[[Address, float | None], redis.Redis]


def slot_of(name: bytes) -> int:
    """Return the slot of a channel and its stream."""
    return int(key_slot(name))


class SlotMap:
    """Which master serves which slot, and so which channel."""

    def __init__(self, ranges: Iterable[tuple[int, int, Address]]) -> None:
        self._masters: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, address in ranges:
            self._masters[first : last + 1] = [address] * (last + 1 - first)

    @property
    def masters(self) -> set[Address]:
        """All masters that serve a slot."""
        return {address for address in self._masters if address is not None}

    @property
    def is_complete(self) -> bool:
        """Whether each slot has a master."""
        return None not in self._masters

    def ranges(self, address: Address | None) -> list[tuple[int, int]]:
        """Return the first and the last of each row of slots that a master serves; of None those that nobody does."""
        found, first = [], 0
        for master, slots in groupby(self._masters):
            end = first + sum(1 for _ in slots)
            if master == address:
                found.append((first, end - 1))
            first = end
        return found

    def master(self, name: bytes) -> Address | None:
        """Return the master that serves a channel and its stream."""
        return self._masters[key_slot(name)]

    def samples(self) -> Iterator[int]:
        """Yield a number for each master, whose digits are in a slot that it serves."""
        missing = self.masters
        for number in count():
            if not missing:
                return
            address = self.master(b"%d" % number)
            if address in missing:
                missing.discard(address)
                yield number

    def is_same(self, other: SlotMap) -> bool:
        """Tell whether another map says the same."""
        return self._masters == other._masters

    def move(self, slot: int, address: Address) -> None:
        """Take note that a slot is elsewhere now."""
        self._masters[slot] = address


def read_map(addresses: Sequence[Address], make_client: MakeClient, *, seconds: float) -> SlotMap:
    """Ask one node after the other until one knows a master for each slot; or else return the last answer.

    Blocks for so many seconds, which all nodes share, as some may hang. Raises redis.RedisError if no node answers.
    """
    answer: SlotMap | None = None
    problem: redis.RedisError = redis.ConnectionError("no node is known")
    deadline = time.monotonic() + seconds
    for index, address in enumerate(addresses):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        share = left / min(MAX_SHARES, len(addresses) - index)  # of many nodes the first ones get more than the last
        try:
            with make_client(address, share) as client:
                # as two words: the form of a reply to its own "CLUSTER SLOTS" is redis-py's
                reply = client.execute_command("CLUSTER", "SLOTS")
        except redis.RedisError as error:
            problem = error
            continue
        answer = SlotMap(_ranges(reply, address))
        if answer.is_complete:
            break
    if answer is None:
        raise problem
    return answer


def _ranges(reply: Any, asked: Address) -> Iterable[tuple[int, int, Address]]:
    for first, last, (host, port, *_), *_ in reply:
        yield int(first), int(last), (host.decode() if host else asked[0], int(port))  # no host: the one that was asked


class Cluster:
    """A client of a cluster: it sends each command to the master that serves its first key or channel."""

    def __init__(self, addresses: Sequence[Address], make_client: MakeClient, *, seconds: float) -> None:
        self._addresses = addresses
        self._make_client = make_client
        self._seconds = seconds
        self._clients: dict[Address, redis.Redis] = {}
        self._map: SlotMap | None = None
        self._failed: Address | None = None  # the node that did not answer last

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands, and return their replies; one round trip for each master.

        A command that was refused since its slot moves is sent to where it is now: it was not carried out. One whose
        reply is lost is not sent again. Raises redis.RedisError.
        """
        replies: dict[int, Any] = {}
        asked: dict[int, Address] = {}  # for this once, by an ASK
        rounds, deadline = 0, time.monotonic() + self._seconds
        while missing := [index for index in range(len(commands)) if index not in replies]:
            if (rounds := rounds + 1) > 3:
                time.sleep(PAUSE_SECONDS)
            for (address, is_asking), indices in self._by_master(commands, missing, asked).items():
                for index, reply in zip(
                    indices, self._send(address, [commands[index] for index in indices], is_asking), strict=True
                ):
                    if not isinstance(reply, redis.ResponseError):
                        replies[index] = reply
                    elif not isinstance(reply, (AskError, TryAgainError)):
                        self._map = None  # the next command asks where its master is
                        raise reply
                    elif time.monotonic() > deadline:
                        raise TryAgainError(f"the slot of {_name(commands[index])!r} is between two nodes")
                    else:
                        self._redirect(index, reply, address, asked)
        return [replies[index] for index in range(len(commands))]

    def _by_master(
        self, commands: Sequence[Command], indices: Iterable[int], asked: dict[int, Address]
    ) -> dict[tuple[Address, bool], list[int]]:
        """Sort commands by where they go, and whether they were sent there by an ASK."""
        found: dict[tuple[Address, bool], list[int]] = {}
        for index in indices:
            place = asked.pop(index, None)
            found.setdefault((place or self._master(commands[index]), place is not None), []).append(index)
        return found

    def _master(self, command: Command) -> Address:
        slots = self._map or self._read_map()
        address = slots.master(_name(command))
        if address is None:
            self._map = None
            raise ClusterDownError(f"no master serves the slot of {_name(command)!r}")
        return address

    def _read_map(self) -> SlotMap:
        known = list({*self._clients, *self._addresses})
        random.shuffle(known)
        known.sort(key=lambda address: address == self._failed)
        self._map = slots = read_map(known, self._make_client, seconds=self._seconds)
        for address in set(self._clients) - slots.masters:
            if client := self._clients.pop(address, None):
                client.connection_pool.disconnect(inuse_connections=False)
        return slots

    def _client(self, address: Address) -> redis.Redis:
        client = self._clients.get(address)
        if client is None:
            client = self._clients[address] = self._make_client(address, None)
        return client

    def _send(self, address: Address, commands: Sequence[Command], is_asking: bool) -> list[Any]:
        """Return the replies of one node; what it refused is an exception among them."""
        try:
            with self._client(address).pipeline(transaction=False) as pipeline:
                for command in commands:
                    if is_asking:
                        pipeline.execute_command("ASKING")  # type: ignore[no-untyped-call]
                    pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
                return pipeline.execute(raise_on_error=False)[1 if is_asking else 0 :: 2 if is_asking else 1]
        except redis.RedisError:
            self._map, self._failed = None, address
            raise

    def _redirect(self, index: int, reply: redis.ResponseError, address: Address, asked: dict[int, Address]) -> None:
        if not isinstance(reply, AskError):
            return
        place = (reply.host or address[0], reply.port)
        if not isinstance(reply, MovedError):  # MOVED is a kind of ASK to redis-py
            asked[index] = place
        elif (slots := self._map) is not None:
            slots.move(reply.slot_id, place)


def _name(command: Command) -> bytes:
    """Return the channel that a command is about: of a script it is the first key."""
    name = command[3] if command[0] == "EVAL" else command[1]
    assert isinstance(name, bytes)
    return name
