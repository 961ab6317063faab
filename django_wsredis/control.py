"""What operators and workers say to each other: announcements, requests and answers, as they travel through Redis.

A worker announces itself in a sorted set, for ANNOUNCED_SECONDS at a time. A request is a message on the channel that
every worker hears; it names a list, to which each worker pushes its answer. Whoever asks knows from Redis how many
workers heard it, so that it waits for no dead one, and from the announcements which of them did not answer.

Everything is JSON. Answers are cut: of sockets and channels a worker tells no more than `limit`.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from importlib import resources
from typing import Any

from .channels import escape
from .commands import Command

WORKERS_SCRIPT = resources.files(__package__).joinpath("workers.lua").read_text()

ANNOUNCE_SECONDS = 5.0  # from one announcement to the next
ANNOUNCED_SECONDS = 15  # for which one holds: a worker that was killed is gone after that
ANSWER_SECONDS = 30  # for which an answer waits for whoever asked

MAX_ROWS = 1000  # sockets, or channels, that a worker tells of at most

# Close codes. After the first two wsredis.js does not come back.
NOT_LOGGED_IN = 4401
NOT_AUTHORIZED = 4403
COME_BACK = 1012


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """A worker that lives.

    id: `host:pid:…`, unlike any other's. server: the program that it is a worker of, such as "uWSGI 2.0.31". group:
    the same for all workers of one server. address: where that listens. started_at: in seconds since 1970. project: see
    `introduction.project()`.
    """

    id: str
    host: str = ""  # what has a default here an older or newer version may leave out
    pid: int = 0
    server: str = ""
    group: str = ""
    address: str = ""
    started_at: float = 0.0
    project: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which sockets are meant: those for which all hold that are not empty.

    users, sessions: of one of these users, or of one of these sessions, which are named by their digests.
    facility: a pattern, of one that the socket has. channel: a pattern, of one that it listens to, by the name that
    clients know. worker: the beginning of the worker's id. hears: Redis names of channels, one of which it listens
    to; one that ends in ":" stands for all that begin so.

    Patterns are those of `fnmatch`. With `is_nobody` none is meant, as of the members of an empty group.
    """

    users: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    facility: str = ""
    channel: str = ""
    worker: str = ""
    hears: tuple[str, ...] = ()
    is_nobody: bool = False

    @property
    def is_narrow(self) -> bool:
        """Whether not all of a worker's sockets are meant."""
        return bool(self.users or self.sessions or self.facility or self.channel or self.hears or self.is_nobody)

    def fits(self, facility: str, channel: str) -> bool:
        """Tell whether a channel is meant, by its facility and the name that clients know."""
        return (not self.facility or fits(facility, self.facility)) and (
            not self.channel or fits(channel, self.channel)
        )


def fits(name: str, pattern: str) -> bool:
    """Tell whether a pattern stands for a name; each name stands for itself."""
    return name == pattern or fnmatchcase(name, pattern)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What workers are asked.

    verb: "report", "names", "sockets", "count", "close", "end", "regroup" or "recheck"; see `loop/control.py`.
        "canary": see `loop/canary.py`. "say": see `posting.py`.
    reply: the list that answers are pushed to; "" where none is wanted. Of a canary its number.
    limit: how many sockets, or channels, a worker tells of. sort: by what they are the first, see `SORTS`.
    also: channels that it tells of beside those, by the names that clients know.
    code, reason: of the closing handshake.
    stream, text: of "say": an event stream's key, and what its browser says by wsredis.v1.
    """

    verb: str
    reply: str = ""
    which: Filter = field(default_factory=Filter)
    limit: int = 20
    sort: str = ""
    also: tuple[str, ...] = ()
    code: int = 1000
    reason: str = ""
    stream: str = ""
    text: str = ""

    def encode(self) -> bytes:
        """Return the request as it travels."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()


def decode_request(data: bytes) -> Request:
    """Read a request. Raises ValueError for what is none; what a newer version adds is no harm."""
    try:
        given = json.loads(data)
        which = Filter(**_known(given.pop("which", {}), Filter()))
        return Request(which=which, **_known(given, Request(verb="")))
    except (TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _known(given: dict[str, Any], like: Filter | Request) -> dict[str, Any]:
    """Return what of it is known, each of the type that it has in `like`. Raises ValueError."""
    found = {}
    for name, value in given.items():
        if name not in like.__dataclass_fields__:
            continue
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            value = tuple(value)
        if type(value) is not type(getattr(like, name)):
            raise ValueError(f"{name} is {value!r}")
        found[name] = value
    return found


# Names and commands


def workers_name(prefix: str) -> bytes:
    """Return the name of the sorted set of announcements."""
    return f"{escape(prefix)}:workers".encode()


def reply_name(prefix: str) -> bytes:
    """Return a name for a list of answers that nobody had before."""
    return f"{escape(prefix)}:reply:{secrets.token_hex(8)}".encode()


def canary_name(prefix: str, worker: str) -> bytes:
    """Return the pub/sub channel on which a worker hears what it sends itself."""
    return f"{escape(prefix)}:canary:{escape(worker)}".encode()


def announce_command(prefix: str, announcement: Announcement) -> Command:
    """Return the command by which a worker says that it lives."""
    text = json.dumps(asdict(announcement), sort_keys=True)
    return ("EVAL", WORKERS_SCRIPT, 1, workers_name(prefix), text, ANNOUNCED_SECONDS)


def leave_command(prefix: str, announcement: Announcement) -> Command:
    """Return the command by which a worker says that it ends."""
    return ("ZREM", workers_name(prefix), json.dumps(asdict(announcement), sort_keys=True))


def workers_command(prefix: str) -> Command:
    """Return the command that tells the workers that live; `read_workers()` reads its reply."""
    return ("EVAL", WORKERS_SCRIPT, 1, workers_name(prefix))


def read_workers(reply: Any) -> list[Announcement]:
    """Return the workers that live, by host and process id."""
    found = []
    for text in reply:
        given = json.loads(text)
        found.append(Announcement(**{name: given[name] for name in Announcement.__dataclass_fields__ if name in given}))
    return sorted(found, key=lambda worker: (worker.host, worker.pid, worker.id))
