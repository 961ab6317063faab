"""Following messages: what workers deliver, and nothing else, on connections to Redis of our own.

No patterns are subscribed: sharded pub/sub has none, and a user of Redis may have rights to our channels only.
So the workers tell which channels somebody hears.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from .. import redis
from ..channels import (
    AUDIENCES,
    Channel,
    channel_name,
    everywhere_name,
    is_pattern,
    read_address,
    read_channel_name,
    read_redis_name,
    redis_name,
)
from ..commands import Command
from ..conf import get_settings
from ..control import ANSWER_SECONDS, Filter, decode_request
from ..exceptions import BrokerUnavailable
from ..messages import EVERYWHERE_CHANNEL, Message, decode
from .followed import Links, LiveNames, Moved
from .page import payload
from .reports import Delivered
from .servers import CLIENT_NAME
from .times import now

RETRY_SECONDS = 1.0  # from one try to connect to the next


class Notice(str):
    """What is said beside the messages."""

    __slots__ = ()


@dataclass(frozen=True)
class Target:
    """What is followed: channels, whether somebody hears them or not, and those of the live ones that are meant.

    is_everything_everywhere: all messages to every facility, else those that go to one of the channels.
    """

    names: frozenset[bytes] = frozenset()
    live: Filter | None = None
    is_everything_everywhere: bool = False


def read_target(text: str) -> Target:
    """Return what a text names: a channel, a facility, or a pattern of either."""
    prefix = get_settings().prefix
    if text == EVERYWHERE_CHANNEL.decode():
        return Target(is_everything_everywhere=True)
    if channel := read_channel_name(text):
        return Target(frozenset({redis_name(prefix, channel)}))
    if text.partition(":")[0] in AUDIENCES and ":" in text:
        return Target(live=Filter(channel=text))
    names = set() if is_pattern(text) else {redis_name(prefix, Channel("broadcast", "", text))}
    return Target(frozenset(names), Filter(facility=text))


class Tail:
    """The messages that are delivered on a channel, a facility, or those that a pattern stands for."""

    def __init__(self, text: str) -> None:
        settings = get_settings()
        self._prefix = settings.prefix
        self._target = read_target(text)
        self._everywhere = everywhere_name(settings.prefix)
        self._live = None if self._target.live is None else LiveNames(self._target.live)
        self._followed = self._target.names

    def follow(self) -> Iterator[Delivered | Notice | None]:
        """Yield messages as they come, and what is to be said; None after those that were there, and from time to time.

        Raises BrokerUnavailable if Redis cannot be reached at the beginning; later it is waited for.
        """
        if self._live:
            self._live.ask()
            self._live.start()
        is_back, said = "", ""
        while True:
            try:
                with closing(Links()) as links:
                    self._followed = self._names()
                    links.subscribe([*self._followed, self._everywhere])
                    links.confirm()
                    if is_back:
                        yield Notice(is_back)
                    is_back, said = "Redis is back; what was published meanwhile is not shown.", ""
                    yield from self._read(links)
            except Moved:
                is_back = "Slots of the cluster have moved; what was published meanwhile is not shown."
            except BrokerUnavailable as error:
                if not is_back:
                    raise
                if said != str(error):
                    said = str(error)
                    yield Notice(f"{said} Trying again.")
                time.sleep(RETRY_SECONDS)
            yield None

    def stop(self) -> None:
        """Ask nobody any more."""
        if self._live:
            self._live.stop()

    def _names(self) -> frozenset[bytes]:
        return self._target.names | (self._live.names if self._live else frozenset())

    def _read(self, links: Links) -> Iterator[Delivered | Notice | None]:
        left_out = 0
        while True:
            if (names := self._names()) != self._followed:
                links.subscribe([*names, self._everywhere])
                self._followed = names
            if self._live and self._live.left_out != left_out:
                left_out = self._live.left_out
                yield Notice(f"More channels are live than can be followed; left out: {left_out}.")
            for name, data in links.read():
                try:
                    message = decode(data)
                except ValueError as error:
                    yield Notice(
                        f"A message on {self._shown(name)} cannot be read, and is delivered to nobody: {error}"
                    )
                    continue
                _answer(message)
                if not message.is_request and self._is_meant(message):
                    yield self._delivered(name, message)
            yield None

    def _is_meant(self, message: Message) -> bool:
        if not message.addresses or self._target.is_everything_everywhere:
            return True
        addresses = tuple(message.addresses)
        return any(name.startswith(addresses) for name in self._followed)

    def _delivered(self, name: bytes, message: Message) -> Delivered:
        return Delivered(
            time=now(),
            channel=self._shown(name),
            audiences=[read_address(address) for address in message.addresses],
            id=None if message.id is None else message.id.decode(),
            from_browser=message.sender is not None,
            **payload(message.data),
        )

    def _shown(self, name: bytes) -> str:
        channel = read_redis_name(self._prefix, name)
        return EVERYWHERE_CHANNEL.decode() if channel is None else channel_name(channel)


def _answer(message: Message) -> None:
    """Say that no socket gets it here: whoever asks for answers waits for those of all who listen."""
    answer = {"worker": CLIENT_NAME, "sockets": 0, "users": [], "is_other": True, "is_worker": False}
    reply = message.reply
    if message.is_request:
        try:
            reply = decode_request(message.payload).reply.encode()
        except ValueError:
            return
    if reply:
        commands: list[Command] = [("RPUSH", reply, json.dumps(answer)), ("EXPIRE", reply, ANSWER_SECONDS)]
        try:
            redis.execute(commands)
        except BrokerUnavailable:
            pass  # the links notice that, too
