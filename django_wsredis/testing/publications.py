"""One message that a test published, and what a test expects of it."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import ANY

from .. import recipients
from ..channels import audience_text, session_digest
from ..messages import to_payload
from ..publisher import Publisher
from ..recipients import Names, Special

MAX_SHOWN = 20
MAX_MESSAGE_CHARACTERS = 200
KINDS = {"groups": "group", "users": "user", "sessions": "session"}


class Publication:
    """One call of `publish()`.

    message, facility: as they were given. options: the others of `publish_message()`, such as `expire`.
    groups, users: names. sessions: digests; `session_digest()` of django_wsredis.channels makes them of keys.
    """

    def __init__(self, publisher: Publisher, message: Any, options: dict[str, Any]) -> None:
        self.message = message
        self.facility = publisher.facility
        self.options = options
        self.audiences = list(publisher.audiences)
        self.broadcast = ("broadcast", "") in self.audiences
        self.groups, self.users, self.sessions = (
            [name for kind, name in self.audiences if kind == wanted] for wanted in KINDS.values()
        )
        self.is_sent = True
        self.waiting: weakref.ref[Callable[[], None]] | None = None

    @property
    def waits_for_commit(self) -> bool:
        """Whether it goes out with the commit of a transaction that is still open."""
        return not self.is_sent and self.waiting is not None and self.waiting() is not None

    @property
    def counts(self) -> bool:
        """Whether somebody may get it: it was sent, or will be with a commit."""
        return bool(self.audiences) and (self.is_sent or self.waits_for_commit)

    def __repr__(self) -> str:
        audiences = ", ".join(audience_text(*audience) for audience in self.audiences) or "nobody"
        if self.waits_for_commit:
            audiences += ", waits for a commit"
        elif not self.is_sent:
            audiences += ", rolled back"
        message = repr(self.message)
        if len(message) > MAX_MESSAGE_CHARACTERS:
            message = f"{message[:MAX_MESSAGE_CHARACTERS]}…"
        return f"{message} on {self.facility} to {audiences}"


class Criteria:
    """What is expected of a message; what is None may be anything."""

    def __init__(self, *, message: Any = ANY, facility: str | Special | None = None, **audiences: Any) -> None:
        self._given: dict[str, Any] = {} if message is ANY else {"message": message}
        if facility is not None:
            self._given["facility"] = facility
        self._given |= {name: given for name, given in audiences.items() if given is not None}
        self._names = {kind: _names(kind, self._given[kind]) for kind in KINDS if kind in self._given}

    def __str__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._given.items())

    def __len__(self) -> int:
        return len(self._given)

    def misfits(self, publication: Publication) -> list[str]:
        """Return what of a publication is otherwise: names of arguments."""
        return [name for name in self._given if not self._fits(name, publication)]

    def _fits(self, name: str, publication: Publication) -> bool:
        found = getattr(publication, name)
        if name in self._names:
            return set(found) == self._names[name]
        if name == "message":
            return _are_equal(found, self._given[name])
        return bool(found == self._given[name])


def _names(kind: str, given: Names) -> set[str]:
    names = recipients.read(kind, given, None)
    return set(map(session_digest, names)) if kind == "sessions" else set(names)


def _are_equal(found: Any, expected: Any) -> bool:
    if found == expected:
        return type(found) is not bytes or type(expected) is not str
    if isinstance(found, (str, bytes)) or isinstance(expected, (str, bytes)):
        return False
    try:
        return bool(json.loads(to_payload(found)[0]) == json.loads(to_payload(expected)[0]))
    except (TypeError, ValueError):  # it holds ANY, or is no message
        return False


def shown(publications: Sequence[Publication], criteria: Criteria) -> str:
    """Return the publications for people, the nearest to some criteria marked."""
    if not publications:
        return "Nothing was published."
    misfits = [criteria.misfits(publication) for publication in publications]
    counting = [len(names) for names, one in zip(misfits, publications, strict=True) if one.counts]
    # one that fits in nothing is near to nothing
    nearest = min(counting, default=0) if criteria and min(counting, default=0) < len(criteria) else 0
    lines = []
    for publication, names in zip(publications, misfits, strict=True):
        lines.append(f"  {publication!r}")
        if nearest and len(names) == nearest and publication.counts:
            lines[-1] += f"  <- nearest, but for {', '.join(names)}"
    if len(lines) > MAX_SHOWN:
        lines[MAX_SHOWN:] = [f"  and {len(lines) - MAX_SHOWN} more"]
    return "\n".join(["Published:", *lines])
