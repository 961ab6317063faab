"""A worker says that it lives, as long as it does."""

from __future__ import annotations

import logging
import os
import secrets
import time
from typing import Any

from hiredis import ReplyError

from .. import control
from ..control import Announcement
from ..introduction import hostname, introduced, project
from .links import Links
from .reactor import Reactor
from .replies import ignore, is_elsewhere

SOON_SECONDS = 0.1  # after which a link is looked for again

logger = logging.getLogger("django_wsredis.redis")


class Announcer:
    """Keeps this worker's announcement in Redis."""

    def __init__(self, reactor: Reactor, links: Links) -> None:
        self._reactor = reactor
        self._prefix = reactor.settings.prefix
        self._links = links
        self._is_refused = self._is_stopped = False
        introduction, host = introduced(), hostname()
        self.announcement = Announcement(
            id=f"{host}:{os.getpid()}:{secrets.token_hex(2)}",
            host=host,
            pid=os.getpid(),
            server=introduction.server,
            group=f"{host}:{introduction.master}",
            address=introduction.address,
            started_at=round(time.time(), 3),
            project=project(),
        )
        self._timer = reactor.timer(control.ANNOUNCE_SECONDS, control.ANNOUNCE_SECONDS)
        self._timer.start(self.announce)

    def begin(self) -> None:
        """Say that this worker lives as soon as it can: in a cluster that link may come up after others."""
        if self._links.link(control.workers_name(self._prefix)):
            self.announce()
        elif not self._is_stopped:
            self._reactor.call_later(SOON_SECONDS, self.begin)

    def announce(self) -> None:
        """Say that this worker lives."""
        if link := self._links.link(control.workers_name(self._prefix)):
            link.call(*control.announce_command(self._prefix, self.announcement), on_reply=self._on_reply)

    def stop(self) -> None:
        """Say that it ends; the link sends what it is given before it is closed."""
        self._is_stopped = True
        self._timer.stop()
        self._timer.close()
        if link := self._links.link(control.workers_name(self._prefix)):
            link.call(*control.leave_command(self._prefix, self.announcement), on_reply=ignore)

    def _on_reply(self, reply: Any) -> None:
        if not isinstance(reply, ReplyError) or is_elsewhere(reply):
            self._is_refused = False
        elif not self._is_refused:  # once, not every few seconds
            self._is_refused = True
            logger.error(
                "Redis refuses this worker's announcement, so wsinspect does not know it: %s. "
                "docs/protocol.rst lists the rights.",
                reply,
            )
