"""The links of a worker to its Redis: one to a single server or to the sentinels' master, or one to each shard."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from .. import redis, redis_errors
from .cluster import ClusterLinks
from .link import Link
from .reactor import Reactor
from .redial import CLIENT_NAME, LONGEST_DELAY_SECONDS, Redial

SENTINEL_DELAY_SECONDS = 1.0  # at most: the sentinels soon know a new master


class Links(Protocol):
    """What serves the channels.

    has_tried: to connect, once, with or without success.
    is_sharded: whether channels are those of SSUBSCRIBE and SPUBLISH.
    """

    has_tried: threading.Event
    is_sharded: bool

    @property
    def all_up(self) -> bool:
        """Whether each channel has a link that serves it."""

    def start(self) -> None:
        """Connect."""

    def stop(self) -> None:
        """Disconnect for good."""

    def link(self, name: bytes) -> Link | None:
        """Return the link that serves a channel now."""

    def probes(self, name: bytes) -> list[bytes]:
        """Return names that begin so, one for each link: it serves the channel of that name."""

    def moved(self, link: Link | None = None) -> None:
        """Look again what is where: a link said that something is elsewhere, or unsubscribed by itself."""


class SingleLink:
    """One link for all channels."""

    is_sharded = False

    def __init__(
        self,
        reactor: Reactor,
        *,
        on_message: Callable[[bytes, bytes], None],
        on_read: Callable[[], None],
        on_changed: Callable[[], None],
        on_unsubscribed: Callable[[bytes], None],
    ) -> None:
        url = reactor.settings.url
        self.has_tried = threading.Event()
        self._redial = Redial(
            reactor,
            place=redis_errors.shown_url(url),
            connect=partial(redis.connect_link, url, client_name=CLIENT_NAME),
            on_message=on_message,
            on_read=on_read,
            on_unsubscribed=on_unsubscribed,
            on_connected=on_changed,
            on_failed=on_changed,
            on_tried=self.has_tried.set,
            longest_delay=SENTINEL_DELAY_SECONDS if redis.has_sentinels(url) else LONGEST_DELAY_SECONDS,
        )

    @property
    def all_up(self) -> bool:
        """Whether there is a link."""
        return self._redial.link is not None

    def start(self) -> None:
        """Connect."""
        self._redial.start()

    def stop(self) -> None:
        """Disconnect for good."""
        self._redial.stop()

    def link(self, name: bytes) -> Link | None:
        """Return the link, whatever the channel."""
        return self._redial.link

    def probes(self, name: bytes) -> list[bytes]:
        """Return the name: there is one link."""
        return [name]

    def moved(self, link: Link | None = None) -> None:
        """Drop the link and connect again: what it leads to is no master, or not yet."""
        if link is None or link is self._redial.link:
            self._redial.drop(
                "It is no master now; or one of a cluster: then WSREDIS['URL'] begins with redis+cluster://."
            )


def make_links(
    reactor: Reactor,
    *,
    on_message: Callable[[bytes, bytes], None],
    on_read: Callable[[], None],
    on_changed: Callable[[], None],
    on_unsubscribed: Callable[[bytes], None],
) -> Links:
    """Return the links for the settings' URL.

    on_message, on_read, on_unsubscribed: of each link; see `Link`.
    on_changed(): another link may serve a channel, or none, or the same one and it is worth another try.
    """
    kind = ClusterLinks if redis.is_cluster(reactor.settings.url) else SingleLink
    return kind(reactor, on_message=on_message, on_read=on_read, on_changed=on_changed, on_unsubscribed=on_unsubscribed)
