"""Whose login, session or groups changed a moment ago: a handshake that began before may know nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from ..control import Filter
from ..peer import Peer

MAX_CHANGES = 10_000  # that are remembered: more come only while very many sessions are deleted at once
MAX_SECONDS = 60.0  # for which one is: no handshake takes longer


class Changes:
    """The latest changes, each with its time."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._changed: dict[str, float] = {}  # the oldest first; sessions by their digests, users by "user:" and name
        self._forgotten_at = float("-inf")

    def note(self, which: Filter) -> None:
        """Something has changed for these users and sessions."""
        now = self._now()
        for name in chain(map(_user, which.users), which.sessions):
            self._changed.pop(name, None)
            self._changed[name] = now
        self._forget(now)

    def concern(self, peer: Peer, since: float) -> bool:
        """Tell whether something has changed for a peer since then, or may have."""
        changed = max(self._changed.get(name, self._forgotten_at) for name in (_user(peer.user), peer.session))
        return bool(peer.user or peer.session) and changed >= since

    def _forget(self, now: float) -> None:
        while self._changed:
            name = next(iter(self._changed))
            if len(self._changed) <= MAX_CHANGES and self._changed[name] > now - MAX_SECONDS:
                return
            self._forgotten_at = self._changed.pop(name)


def _user(name: str) -> str:
    return f"user:{name}"
