"""Names: audience × facility, and the Redis name that stands for them. Knows no settings, Redis or models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import parse_qsl, quote

from django.utils.crypto import salted_hmac

from .exceptions import HandshakeError

AUDIENCES = ("broadcast", "user", "group", "session")

MAX_FACILITY_CHARACTERS = 200


class Channel(NamedTuple):
    """One stream of messages. `name` is a user's or group's name, a session's digest; empty for broadcast."""

    audience: str
    name: str
    facility: str

    def __str__(self) -> str:
        return f"{audience_text(self.audience, self.name)} on {self.facility}"


def audience_text(audience: str, name: str) -> str:
    """Return an audience as people say it: `everybody`, `group staff`; a session's digest is not shown."""
    if audience == "broadcast":
        return "everybody"
    return "a session" if audience == "session" else f"{audience} {name}"


def escape(part: str) -> str:
    """Percent-encode one part of a name. No two texts give the same one, and none holds a `:`."""
    return quote(part, safe="/@")


def address(prefix: str, audience: str, name: str) -> bytes:
    """Return what the Redis names of an audience have in common on all facilities: `wsredis:group:staff:`."""
    parts = [prefix, audience] if audience == "broadcast" else [prefix, audience, name]
    return (":".join(map(escape, parts)) + ":").encode()


def redis_name(prefix: str, channel: Channel) -> bytes:
    """Return the name of the channel in Redis: of its pub/sub channel and of its stream alike.

    One name for both puts them into one slot of a cluster.
    """
    return address(prefix, channel.audience, channel.name) + escape(channel.facility).encode()


def everywhere_name(prefix: str) -> bytes:
    """Return the pub/sub channel that every worker hears, for messages to an audience on every facility."""
    return f"{escape(prefix)}:everywhere".encode()


def session_digest(session_key: str) -> str:
    """Return the name of a session's channels: keyed with SECRET_KEY, so that Redis never holds the session key."""
    return salted_hmac("django_wsredis.session", session_key, algorithm="sha256").hexdigest()[:32]


def is_facility(facility: str) -> bool:
    """Tell whether a text can name a facility: any path of 1 to 200 characters that UTF-8 can hold."""
    try:
        facility.encode()
    except UnicodeEncodeError:
        return False
    return 0 < len(facility) <= MAX_FACILITY_CHARACTERS


class Wish(NamedTuple):
    """What a browser asks for in its query string: audiences, and whether its own messages come back."""

    subscribe: tuple[str, ...]
    publish: tuple[str, ...]
    echo: bool

    @property
    def names(self) -> list[str]:
        """The wish as `ALLOWED_CHANNELS` sees it: `["subscribe-broadcast", "publish-user"]`."""
        return [f"subscribe-{a}" for a in self.subscribe] + [f"publish-{a}" for a in self.publish]

    def granted(self, names: Iterable[str]) -> Wish:
        """Return the part of the wish that is among `names`."""
        names = set(names)
        return Wish(
            tuple(a for a in self.subscribe if f"subscribe-{a}" in names),
            tuple(a for a in self.publish if f"publish-{a}" in names),
            self.echo,
        )


def parse_wish(query: str) -> Wish:
    """Read `subscribe-{audience}`, `publish-{audience}` and `echo` from a query string.

    As in ws4redis, case and values do not matter, and other names are the project's own.
    Raises HandshakeError for an audience that does not exist, and when nothing is asked for.
    """
    wanted = {name.lower() for name, _ in parse_qsl(query, keep_blank_values=True)}
    for name in sorted(wanted):
        verb, _, audience = name.partition("-")
        if verb in ("subscribe", "publish") and audience not in AUDIENCES:
            raise HandshakeError(f"the query asks for {name!r}; the audiences are {', '.join(AUDIENCES)}")
    wish = Wish(
        tuple(a for a in AUDIENCES if f"subscribe-{a}" in wanted),
        tuple(a for a in AUDIENCES if f"publish-{a}" in wanted),
        "echo" in wanted,
    )
    if not wish.names:
        raise HandshakeError("the query asks for nothing; add ?subscribe-broadcast, -user, -group or -session")
    return wish
