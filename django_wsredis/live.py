"""Who is connected now: the public, synchronous API to ask the workers, and to close sockets. Knows no gevent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.apps import apps

from .asking import Asked, ask, known
from .channels import Channel, address, redis_name, session_digest
from .conf import get_settings
from .control import MAX_ROWS, NOT_AUTHORIZED, Filter, Request
from .publisher import Publisher
from .recipients import Names, Special, read

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

MAX_REASON_BYTES = 123  # RFC 6455, 5.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """A live socket. `user` is "" of a visitor who is not logged in; `address` is the browser's.

    channels: by the names that clients know; that of a session is told without it. received, sent: messages, so far;
    what waits in its outbox is among those sent. round_trip_ms: None before its first pong.
    """

    user: str
    address: str
    facilities: list[str]
    channels: list[str]
    age_seconds: float
    round_trip_ms: float | None
    outbox_bytes: int
    received: int
    sent: int
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many sockets: of how many users who are logged in, on how many workers.

    silent: the ids of workers that did not answer in time; what they have is not counted. seconds: that it took.
    """

    sockets: int
    users: int
    workers: int
    silent: list[str]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """Live sockets, at most as many as were asked for, and how many there are; `silent` as of `Count`."""

    sockets: list[Socket]
    total: int
    silent: list[str]


def connections(
    *,
    groups: Names | None = None,
    users: Names | None = None,
    sessions: Names | None = None,
    facility: str = "",
    channel: str = "",
    worker: str = "",
    sort: str = "sent",
    limit: int = 100,
) -> Connections:
    """Return the sockets of some users, members of groups, or sessions; of everybody if none is named.

    users, groups, sessions: as of `publish()`, together: a socket is meant that belongs to one of them, and none if
    they are empty. Members of a group are those that the database knows now.
    facility, channel: patterns (`chat/*`), of a facility that the socket has, or a channel that it hears, by the name
    that clients know (`group:staff:*`). worker: the beginning of a worker's id.
    sort: what comes first: most "sent", "received", "outbox", "rtt", or "age", of which the newest.

    Raises BrokerUnavailable, and TypeError for arguments of the wrong kind.
    """
    if sort not in SORTS:
        raise TypeError(f"sort is {sort!r}; it is one of {', '.join(SORTS)}")
    if type(limit) is not int or not 0 < limit <= MAX_ROWS:
        raise TypeError(f"limit is {limit!r}; it is a whole number from 1 to {MAX_ROWS}")
    which = meant(groups=groups, users=users, sessions=sessions, facility=facility, channel=channel, worker=worker)
    return sockets(which, sort=sort, limit=limit)


def sockets(which: Filter, *, sort: str, limit: int) -> Connections:
    """Return the sockets that are meant, as `connections()` does."""
    asked = ask(Request(verb="sockets", which=which, limit=limit, sort=sort))
    rows = [Socket(worker=answer["worker"], **known(Socket, row)) for answer in asked.answers for row in answer["rows"]]
    rows.sort(key=SORTS[sort], reverse=sort != "age")
    return Connections(
        sockets=rows[:limit], total=sum(answer["sockets"] for answer in asked.answers), silent=asked.silent
    )


# The order of `loop.survey.SORTS`, by which each worker chose its first ones.
SORTS: dict[str, Any] = {
    "sent": lambda socket: socket.sent,
    "received": lambda socket: socket.received,
    "outbox": lambda socket: socket.outbox_bytes,
    "rtt": lambda socket: socket.round_trip_ms or 0.0,
    "age": lambda socket: socket.age_seconds,
}


def count(
    *,
    groups: Names | None = None,
    users: Names | None = None,
    sessions: Names | None = None,
    facility: str = "",
    channel: str = "",
    worker: str = "",
) -> Count:
    """Return how many sockets there are; the arguments are those of `connections()`."""
    which = meant(groups=groups, users=users, sessions=sessions, facility=facility, channel=channel, worker=worker)
    return counted(ask(Request(verb="count", which=which)))


def is_online(user: str | AbstractBaseUser) -> bool:
    """Tell whether a user has a socket, by the user's name or object. A worker that does not answer has none of it.

    Raises BrokerUnavailable, and TypeError for what is no user.
    """
    return count(users=[user]).sockets > 0


def disconnect(
    *,
    broadcast: bool = False,
    groups: Names | None = None,
    users: Names | None = None,
    sessions: Names | None = None,
    facility: str = "",
    channel: str = "",
    worker: str = "",
    code: int = NOT_AUTHORIZED,
    reason: str = "",
) -> Count:
    """Close sockets; return how many.

    The arguments are those of `connections()`, and one must be given: `broadcast=True` is everybody, and goes with no
    other one.
    code: of the closing handshake: 1000, 1001, 1008, 1012, 1013, or 3000 to 4999. After 4403, which it is by default,
    1003, 1008 and 4401 wsredis.js does not come back. reason: a text of up to 123 bytes.
    """
    if not isinstance(broadcast, bool):
        raise TypeError(f"broadcast is {broadcast!r}; it is True or False")
    is_narrow = bool(facility or channel or worker) or not (groups is users is sessions is None)
    if broadcast == is_narrow:
        raise TypeError("say whom to disconnect: broadcast=True for everybody, or other arguments")
    if not is_close_code(code):
        raise TypeError(f"code is {code!r}; it is 1000, 1001, 1008, 1012, 1013, or 3000 to 4999")
    if not is_close_reason(reason):
        raise TypeError(f"reason is {reason!r}; it is a text of up to {MAX_REASON_BYTES} bytes of UTF-8")
    which = meant(groups=groups, users=users, sessions=sessions, facility=facility, channel=channel, worker=worker)
    return counted(ask(Request(verb="close", which=which, code=code, reason=reason)))


def is_close_code(value: Any) -> bool:
    """Tell whether a server may close a socket with a code (RFC 6455, 7.4)."""
    return type(value) is int and (value in (1000, 1001, 1008, 1012, 1013) or 3000 <= value < 5000)


def is_close_reason(value: Any) -> bool:
    """Tell whether a text fits into the frame that closes a socket (RFC 6455, 5.5)."""
    try:
        return isinstance(value, str) and len(value.encode()) <= MAX_REASON_BYTES
    except UnicodeEncodeError:
        return False


def hearers(publisher: Publisher) -> Count:
    """Return how many sockets a message of a publisher would go to now. Raises BrokerUnavailable."""
    prefix = get_settings().prefix
    names = [
        address(prefix, *audience)
        if isinstance(publisher.facility, Special)
        else redis_name(prefix, Channel(*audience, publisher.facility))
        for audience in publisher.audiences
    ]
    which = Filter(hears=tuple(name.decode() for name in names), is_nobody=not names)
    return counted(ask(Request(verb="count", which=which)))


# Who is meant


def meant(
    *,
    groups: Names | None,
    users: Names | None,
    sessions: Names | None,
    facility: str,
    channel: str,
    worker: str,
) -> Filter:
    """Return the filter for the arguments of `connections()`. Raises TypeError."""
    for name, value in (("facility", facility), ("channel", channel), ("worker", worker)):
        if not isinstance(value, str):
            raise TypeError(f"{name} is {value!r}; it is a text")
    names = set(() if users is None else read("users", users, None))
    if groups is not None:
        names |= members(read("groups", groups, None))
    digests = () if sessions is None else tuple(session_digest(key) for key in read("sessions", sessions, None))
    return Filter(
        users=tuple(sorted(names)),
        sessions=digests,
        facility=facility,
        channel=channel,
        worker=worker,
        is_nobody=not (names or digests) and not (groups is users is sessions is None),
    )


def members(groups: Iterable[str]) -> set[str]:
    """Return the names of the users who are in one of the groups now, as the database knows."""
    if not apps.is_installed("django.contrib.auth"):
        return set()
    from django.contrib.auth import get_user_model

    model = get_user_model()
    if not hasattr(model, "groups"):
        return set()
    found: Any = model._default_manager.filter(groups__name__in=list(groups))
    return set(found.values_list(model.USERNAME_FIELD, flat=True))


def counted(asked: Asked) -> Count:
    """Return the sum of answers that tell of sockets and users."""
    return Count(
        sockets=sum(answer["sockets"] for answer in asked.answers),
        users=len({user for answer in asked.answers for user in answer["users"]}),
        workers=len({answer["worker"] for answer in asked.answers if answer["sockets"]}),
        silent=asked.silent,
        seconds=asked.seconds,
    )
