"""Names: audience × facility, and the Redis name that stands for them. Knows no settings, Redis or models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from django.utils.crypto import salted_hmac

from .exceptions import HandshakeError

AUDIENCES = ("broadcast", "user", "group", "session")

MAX_FACILITY_CHARACTERS = 200
RESERVED = "-/"  # below WEBSOCKET_URL: what begins so is for operators

MAX_HISTORY = 10_000  # messages that one socket may ask for
_POSITION = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")  # a stream id, in Redis two numbers of 64 bits


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


def read_address(address: bytes) -> str:
    """Return the audience of an `address()` as in a channel's name for clients: `group:staff`; `session` for any."""
    _, audience, *names = address.decode("ascii", "replace").removesuffix(":").split(":")
    return ":".join([audience, *names]) if audience != "session" else audience


def redis_name(prefix: str, channel: Channel) -> bytes:
    """Return the name of the channel in Redis: of its pub/sub channel and of its stream alike.

    One name for both puts them into one slot of a cluster.
    """
    return address(prefix, channel.audience, channel.name) + escape(channel.facility).encode()


def read_redis_name(prefix: str, name: bytes) -> Channel | None:
    """Return the channel whose name in Redis this is; None for a name that is none of ours."""
    head, *parts = name.decode("ascii", "replace").split(":")
    if head != escape(prefix) or not all(parts) or len(parts) != (2 if parts[:1] == ["broadcast"] else 3):
        return None
    audience, *middle, facility = map(unquote, parts)
    channel = Channel(audience, "".join(middle), facility)
    # unquote reads more than quote writes
    return channel if audience in AUDIENCES and redis_name(prefix, channel) == name else None


def channel_name(channel: Channel) -> str:
    """Return the channel's name as clients see it: `group:staff:chat`; of a session's without the digest."""
    parts = [channel.audience, channel.facility]
    if channel.audience not in ("broadcast", "session"):
        parts.insert(1, channel.name)
    return ":".join(map(escape, parts))


def read_channel_name(name: str) -> Channel | None:
    """Return the channel that clients know by a name; None for a session's, whom that does not name, and for none."""
    audience, *parts = map(unquote, name.split(":"))
    if audience not in ("broadcast", "user", "group") or not all(parts) or len(parts) != 1 + (audience != "broadcast"):
        return None
    channel = Channel(audience, "".join(parts[:-1]), parts[-1])
    return channel if channel_name(channel) == name else None  # unquote reads more than quote writes


def everywhere_name(prefix: str) -> bytes:
    """Return the pub/sub channel that every worker hears, for messages to an audience on every facility."""
    return f"{escape(prefix)}:everywhere".encode()


def session_digest(session_key: str) -> str:
    """Return the name of a session's channels: keyed with SECRET_KEY, so that Redis never holds the session key."""
    return salted_hmac("django_wsredis.session", session_key, algorithm="sha256").hexdigest()[:32]


def facility_problem(facility: str) -> str:
    """Return why a text cannot name a facility; "" if it can, as most paths of 1 to 200 characters can."""
    if facility.startswith("/"):
        return "leave out the slash in front: a facility is what follows WEBSOCKET_URL"
    if facility.startswith(RESERVED):
        return f"what begins with {RESERVED!r} is for operators"
    try:
        facility.encode()
    except UnicodeEncodeError:
        return "UTF-8 cannot hold it"
    return "" if 0 < len(facility) <= MAX_FACILITY_CHARACTERS else f"it has 1 to {MAX_FACILITY_CHARACTERS} characters"


def is_pattern(text: str) -> bool:
    """Tell whether a text is a pattern of the shell's, where one may be given; a facility may have such a name, too."""
    return bool(set(text) & set("*?["))


def is_position(text: str) -> bool:
    """Tell whether a text is a position in a channel: a stream id, such as `1700000000000-0`."""
    return _POSITION.fullmatch(text) is not None


class Wish(NamedTuple):
    """What a browser asks for in its query string.

    subscribe, publish: audiences. echo: whether its own messages come back.
    since: the position after which it wants a channel's messages, by the channel's name for clients; "" is all others.
    history: how many of the newest messages it wants of channels that `since` does not name.
    """

    subscribe: tuple[str, ...]
    publish: tuple[str, ...]
    echo: bool
    since: Mapping[str, bytes] = MappingProxyType({})
    history: int = 1

    @property
    def names(self) -> list[str]:
        """The wish as `ALLOWED_CHANNELS` sees it: `["subscribe-broadcast", "publish-user"]`."""
        return [f"subscribe-{a}" for a in self.subscribe] + [f"publish-{a}" for a in self.publish]

    def granted(self, names: Iterable[str]) -> Wish:
        """Return the part of the wish that is among `names`."""
        names = set(names)
        return self._replace(
            subscribe=tuple(a for a in self.subscribe if f"subscribe-{a}" in names),
            publish=tuple(a for a in self.publish if f"publish-{a}" in names),
        )


def parse_wish(query: str) -> Wish:
    """Read `subscribe-{audience}`, `publish-{audience}`, `echo`, `since=` and `history=` from a query string.

    As in ws4redis, case and the values of the first three do not matter, and other names are the project's own.
    Raises HandshakeError for an audience or a position that cannot be, and when nothing is asked for.
    """
    pairs = parse_qsl(query, keep_blank_values=True)
    values = dict(pairs)
    wanted = {name.lower() for name, _ in pairs}
    for name in sorted(wanted):
        verb, _, audience = name.partition("-")
        if verb in ("subscribe", "publish") and audience not in AUDIENCES:
            raise HandshakeError(f"the query asks for {name!r}; the audiences are {', '.join(AUDIENCES)}")
    wish = Wish(
        tuple(a for a in AUDIENCES if f"subscribe-{a}" in wanted),
        tuple(a for a in AUDIENCES if f"publish-{a}" in wanted),
        "echo" in wanted,
        read_since(values.get("since", "")),
        _history(values.get("history", "1")),
    )
    if not wish.names:
        raise HandshakeError("the query asks for nothing; add ?subscribe-broadcast, -user, -group or -session")
    return wish


def read_since(text: str) -> Mapping[str, bytes]:
    """Read `1700000000000-0`, or `broadcast:chat=1700000000000-0,user:alice:chat=1700000000001-0`.

    The position that names no channel, which is that of all others, is under "". Raises HandshakeError.
    """
    found = {}
    for part in filter(None, text.split(",")):
        channel, _, position = part.rpartition("=")
        if not is_position(position):
            raise HandshakeError(f"since={text!r} holds {position!r}, which is no position such as 1700000000000-0")
        found[channel] = position.encode()
    return found


def read_last_event_id(text: str) -> Mapping[str, bytes]:
    """Read the id of the event that an EventSource got last as where all its channels go on; {} for none.

    It is `broadcast:chat=1700000000000-0`, the exact position of that event's channel. Whatever is older than it the
    others have sent, too, as long as one clock gives the ids: that of one Redis. Within a millisecond ids of several
    channels say nothing about their order, so from there on the others begin again: rather twice than not at all.

    Raises HandshakeError.
    """
    found = dict(read_since(text))
    if len(found) == 1 and "" not in found:
        milliseconds = int(next(iter(found.values())).partition(b"-")[0])
        found[""] = b"%d-%d" % (max(0, milliseconds - 1), 10**19 - 1)
    return found


def _history(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= MAX_HISTORY):
        raise HandshakeError(f"history={text!r} is no number of messages up to {MAX_HISTORY}")
    return int(text)
