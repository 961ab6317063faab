"""A server that is looked at, and what it tells of itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import count
from secrets import token_hex
from typing import Any, TypeAlias

from ... import redis, redis_errors
from ...channels import Channel, redis_name
from ...cluster import SlotMap
from ...commands import Command
from ...conf import Settings
from ...exceptions import BrokerUnavailable
from ...inspection.servers import Node, read_info
from ...redis_url import Address
from ..findings import Problem

Found: TypeAlias = tuple[str, tuple[Problem, ...]]  # what is there, and what is wrong with it

MESSAGES = ([b"message"], [b"smessage"])  # as they begin, among replies


class NotSeen(Exception):
    """Raised by a check that cannot see what it looks for; its text says why."""


class Server(Node):
    """A connection to a server: to a node of a cluster, or, without an address, to the master."""

    def __init__(self, url: str, address: Address | None) -> None:
        super().__init__(url, address, client_name="")  # to give itself a name takes a right

    @property
    def tls(self) -> Any:
        """The socket, if it speaks TLS; else None."""
        sock = self._connection._sock
        return sock if hasattr(sock, "getpeercert") else None

    @property
    def certificate(self) -> dict[str, Any]:
        """What its certificate says; {} without TLS, or if it is not verified."""
        return (self.tls.getpeercert() or {}) if self.tls else {}

    def said(self, what: bytes) -> str:
        """Return what it said on connecting, to anybody: its "server", "version", "mode" or "role"."""
        value = (self._connection.handshake_metadata or {}).get(what, b"")
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


class Sentinel(Server):
    """A connection to a sentinel."""

    def __init__(self, url: str, address: Address) -> None:
        self._url = url
        self._connection = redis.connect_sentinel(url, address)


class Master(Server):
    """A connection to a master, and what is known of it.

    scratch: a name that nobody has, of a channel that it serves; no browser may have that facility.
    lacks: the rights that are missing, and the commands that it does not know, once they have been tried.
    """

    def __init__(self, settings: Settings, address: Address | None, scratch: bytes) -> None:
        super().__init__(settings.url, address)
        self.settings = settings
        self.place = address
        self.scratch = scratch
        self.lacks: tuple[str, ...] = ()

    @property
    def is_sharded(self) -> bool:
        """Whether it is a cluster's."""
        return self.place is not None

    @property
    def user(self) -> str:
        """The name of the user of Redis that we are."""
        return redis.username(self.settings.url)

    def replies(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies to commands that go out together, or what confirms a subscription.

        What is refused is a BrokerUnavailable among them. Raises BrokerUnavailable if there is no answer.
        """
        with redis_errors.translated(self.settings.url):
            self._connection.send_packed_command(self._connection.pack_commands(commands))
        return [self._reply() for _ in commands]

    def _reply(self) -> Any:
        try:
            with redis_errors.translated(self.settings.url):
                reply = self._connection.read_response(push_request=True)
                while isinstance(reply, list) and reply[:1] in MESSAGES:  # of who publishes just now
                    reply = self._connection.read_response(push_request=True)
                return reply
        except BrokerUnavailable as error:
            if redis_errors.refusal(error):
                return error
            raise

    @cached_property
    def _info(self) -> dict[str, str] | str:
        try:
            return read_info(self)
        except BrokerUnavailable as error:
            if refused := redis_errors.refusal(error):
                return refused
            raise

    @property
    def info(self) -> dict[str, str]:
        """What INFO tells. Raises NotSeen if that is refused, and BrokerUnavailable."""
        if isinstance(self._info, str):
            raise NotSeen(f"INFO is refused: {self._info}")
        return self._info

    def config(self, name: str) -> str:
        """Return a setting of Redis. Raises NotSeen if it is not told, and BrokerUnavailable."""
        try:
            found = self.call("CONFIG", "GET", name)
        except BrokerUnavailable as error:
            if refused := redis_errors.refusal(error):
                raise NotSeen(f"CONFIG GET is refused: {refused}") from error
            raise
        if name.encode() not in found:
            raise NotSeen(f"CONFIG GET {name} is not answered")
        return str(found[name.encode()].decode())


def scratch_name(settings: Settings, slots: SlotMap | None, address: Address | None) -> bytes:
    """Return the name of a channel that nobody has: in a cluster one that this master serves."""
    token = token_hex(8)
    names = (redis_name(settings.prefix, Channel("broadcast", "", f"-/wscheck/{token}/{n}")) for n in count())
    return next(name for name in names if slots is None or slots.master(name) == address)
