"""The links to a cluster: one to each master, and the map that tells which of them serves a channel.

The map is read again when a link is lost, when Redis says that something is elsewhere, and now and then.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from functools import partial

from .. import redis, redis_errors
from ..cluster import SlotMap
from ..exceptions import BrokerUnavailable
from ..redis_url import Address, shown_address
from .link import Link
from .reactor import Reactor
from .redial import CLIENT_NAME, Redial, next_delay

FIRST_DELAY_SECONDS = 0.02
LONGEST_DELAY_SECONDS = 1.0  # a cluster soon knows who replaces a master
CALM_SECONDS = 5.0

logger = logging.getLogger("django_wsredis.redis")


class ClusterLinks:
    """A link to each master that serves a slot; see `Links`."""

    is_sharded = True

    def __init__(
        self,
        reactor: Reactor,
        *,
        on_message: Callable[[bytes, bytes], None],
        on_read: Callable[[], None],
        on_changed: Callable[[], None],
        on_unsubscribed: Callable[[bytes], None],
    ) -> None:
        self._reactor = reactor
        self._on_message = on_message
        self._on_read = on_read
        self._on_changed = on_changed
        self._on_unsubscribed = on_unsubscribed
        self._url = reactor.settings.url
        self._redials: dict[Address, Redial] = {}
        self._map = SlotMap([])
        self.has_tried = threading.Event()
        self._is_stopped = False
        self._read_is_due = False  # or under way
        self._is_stale = False  # the map that is being read: there is newer news
        self._has_failed = False  # the last read
        self._attempts = 0
        self._read_at = -CALM_SECONDS
        self._told_by: Address | None = None  # the node that knows that something has changed
        interval = reactor.settings.ping_interval
        self._timer = reactor.timer(interval, interval)

    @property
    def all_up(self) -> bool:
        """Whether each slot has a master, and each master a link."""
        return self._map.is_complete and all(redial.link is not None for redial in self._redials.values())

    def start(self) -> None:
        """Read the map, then connect."""
        self._timer.start(self.moved)  # a safety net, for news that nobody told
        self._read_is_due = True
        self._read()

    def stop(self) -> None:
        """Disconnect for good."""
        self._is_stopped = True
        self._timer.stop()
        self._timer.close()
        for redial in self._redials.values():
            redial.stop()
        self._redials.clear()

    def link(self, name: bytes) -> Link | None:
        """Return the link to the master that serves a channel."""
        address = self._map.master(name)
        redial = self._redials.get(address) if address is not None else None
        return redial.link if redial is not None else None

    def probes(self, name: bytes) -> list[bytes]:
        """Return a name for each master; what is in braces chooses the slot."""
        return [b"%s:{%d}" % (name, number) for number in self._map.samples()]

    def moved(self, link: Link | None = None) -> None:
        """Read the map again, soon; the more often in vain, the later."""
        if link is not None:
            self._told_by = next((at for at, redial in self._redials.items() if redial.link is link), self._told_by)
        if self._read_is_due:
            self._is_stale = True
            return
        if self._is_stopped:
            return
        if self._reactor.now() - self._read_at > CALM_SECONDS:
            self._attempts = 0
        self._read_is_due = True
        self._reactor.call_later(next_delay(self._attempts, FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS), self._read)
        self._attempts += 1

    # The map

    def _read(self) -> None:
        if self._is_stopped:
            return
        self._is_stale = False
        up = [address for address, redial in self._redials.items() if redial.link is not None]
        random.shuffle(up)
        up.sort(key=lambda address: address != self._told_by)
        down = [address for address, redial in self._redials.items() if redial.link is None]
        self._told_by = None
        self._reactor.start_thread(partial(self._ask, up, down), on_failed=partial(self._on_map, None))

    def _ask(self, up: list[Address], down: list[Address]) -> None:
        """Read the map from those that are up, or else from those of the URL, or else from those that are down."""
        try:
            found = redis.read_slots(self._url, up, down)
        except BrokerUnavailable as error:
            self._reactor.run(self._on_map, None, str(error))
        except Exception as error:  # whatever it is, the loop must try again
            logger.exception("The cluster's map cannot be read.")
            self._reactor.run(self._on_map, None, repr(error))
        else:
            self._reactor.run(self._on_map, found, "")

    def _on_map(self, found: SlotMap | None, reason: str) -> None:
        self._read_is_due = False
        self._read_at = self._reactor.now()
        if self._is_stopped:
            return
        if found is None:
            if not self._has_failed:  # once, however often it is tried
                logger.warning("The cluster's map cannot be read. %s", reason)
            self._has_failed = True
            self.has_tried.set()
        else:
            self._has_failed = False
            if not found.is_same(self._map):
                self._attempts = 0  # it was not in vain: more slots may follow soon
            self._map = found
            self._follow_map()
        if found is None or self._is_stale or not found.is_complete:
            self.moved()
        self._on_changed()

    def _follow_map(self) -> None:
        masters = self._map.masters
        for address in self._redials.keys() - masters:
            self._redials.pop(address).stop()
        for address in masters - self._redials.keys():
            self._redials[address] = redial = self._make_redial(address)
            redial.start()

    def _make_redial(self, address: Address) -> Redial:
        return Redial(
            self._reactor,
            place=f"{redis_errors.shown_url(self._url)}, {shown_address(address)}",
            connect=partial(redis.connect_node, self._url, address, client_name=CLIENT_NAME),
            on_message=self._on_message,
            on_read=self._on_read,
            on_unsubscribed=self._on_unsubscribed,
            on_connected=self._on_changed,
            on_failed=self._on_failed,
            on_tried=self._on_tried,
            longest_delay=LONGEST_DELAY_SECONDS,
        )

    def _on_failed(self) -> None:
        """Look whether another node has taken the place of one that is away."""
        self.moved()
        self._on_changed()

    def _on_tried(self) -> None:
        if all(redial.has_tried for redial in self._redials.values()):
            self.has_tried.set()
