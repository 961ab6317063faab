"""The commands that Redis is sent, and what their replies mean. Opens nothing.

A position in a channel is a stream id (b"1700000000000-0"): everything up to it has been seen.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib import resources
from typing import Any, NamedTuple, TypeAlias

from .conf import Keep
from .messages import HAS_ID, Message, decode, encode, envelope

PUBLISH_SCRIPT = resources.files(__package__).joinpath("publish.lua").read_text()
READ_SCRIPT = resources.files(__package__).joinpath("read.lua").read_text()

# A key that makes a message once only is remembered as long as the message is kept, and at least so long.
MIN_KEY_SECONDS = 300

# A stream is begun for who waits at a channel that holds nothing: not for long, as any visitor's wish can cause it.
MAX_BEGIN_SECONDS = 3600

REPEATED = -1  # the reply to a message whose key was there already: it was not published

# Of one read: what a slow socket is sent before it is asked for more, and what Redis reads while it serves nobody else.
PAGE_MESSAGES = 500
PAGE_BYTES = 256 * 1024

Command: TypeAlias = tuple[bytes | str | int, ...]

logger = logging.getLogger("django_wsredis.redis")


class Stored(NamedTuple):
    """What was read of a channel.

    messages: from old to new, each with its id.
    end: the position of the newest, also when it is not among them; None if the channel keeps nothing.
    is_whole: whether nothing is missing between the position that was asked for and the first of them.
    before, rest: of the newest, where they are more than Redis reads at once: nothing was read yet; ask for as many as
        `rest` next, in front of that entry.
    """

    messages: list[Message]
    end: bytes | None
    is_whole: bool
    before: bytes | None = None
    rest: int = 0

    @property
    def has_more(self) -> bool:
        """Whether others follow the last of them, to be read from there."""
        return bool(self.messages) and self.messages[-1].id != self.end


def publish_command(
    name: bytes, message: Message, keep: Keep | None, *, key: bytes | None = None, is_sharded: bool = False
) -> Command:
    """Return the command that publishes a message, and keeps it where `keep` says so, in one atomic step.

    key: with the same key twice only the first is published.
    is_sharded: for a cluster, where a message goes to the channel's own shard alone.

    Its reply is the number of workers that received the message, or REPEATED.
    """
    word = "SPUBLISH" if is_sharded else "PUBLISH"
    if keep is None and key is None:
        return (word, name, encode(message))
    head, tail = envelope(message)
    entries, seconds = (0, 0) if keep is None else (keep.entries, keep.seconds)
    head_with_id = head[:-1] + bytes([head[-1] | HAS_ID])
    if keep is None:  # then it need not be in an envelope
        head, tail = b"", encode(message)
    names = (name,) if key is None else (name, key_name(name, key))
    key_seconds = max(seconds, MIN_KEY_SECONDS)
    return (
        *("EVAL", PUBLISH_SCRIPT, len(names), *names),
        *(word, head, head_with_id, tail, entries, seconds, key_seconds),
    )


def key_name(name: bytes, key: bytes) -> bytes:
    """Return the name of the key that makes a message once only: in a cluster it is in the channel's slot."""
    return b"{" + name + b"}:key:" + key


def read_command(
    name: bytes,
    history: Keep | None,
    *,
    since: bytes | None = None,
    before: bytes | None = None,
    count: int = PAGE_MESSAGES,
    max_bytes: int = PAGE_BYTES,
) -> Command:
    """Return the command that reads up to `count` messages of a channel: those after `since`, or else the newest.

    history: of the channel, if it has one; where that is empty it gets an end, from which nothing can be missed.
    before: of the newest, which are looked for page by page: what `Stored` says.

    What would be more than a page is cut: then its last message is not the end, and what follows that can be read.

    `stored()` reads its reply.
    """
    max_age = history.seconds * 1000 if history else 0
    begin_seconds = min(history.seconds, MAX_BEGIN_SECONDS) if history else 0
    if since is None:
        count = min(count, history.messages if history else 1)
    return (
        *("EVAL", READ_SCRIPT, 1, name),
        *(since or b"", count, max_age, begin_seconds, max_bytes, PAGE_MESSAGES, before or b""),
    )


def newest_command(name: bytes, count: int, *, end: bytes = b"+") -> Command:
    """Return the command that reads the newest `count` entries of a channel, newest first; it changes nothing.

    end: the id of the newest that may be among them; with "(" in front what comes before it.

    `read_entries()` reads its reply.
    """
    return ("XREVRANGE", name, end, b"-", "COUNT", count)


def stored(name: bytes, reply: Any) -> Stored:
    """Read the reply to `read_command()`. What cannot be read of it is logged and left out."""
    is_whole, end, entries, *next_read = reply
    return Stored(read_entries(name, entries), end or None, bool(is_whole), *next_read)


def read_entries(name: bytes, entries: Iterable[Any]) -> list[Message]:
    """Read entries of a channel's stream. What cannot be read of them is logged and left out."""
    messages = []
    for id, fields in entries:
        try:  # redis-py makes a dict of the fields, but not of those in a script's reply
            messages.append(decode(fields[b"m"] if isinstance(fields, dict) else fields[1], id))
        except (ValueError, KeyError) as error:
            logger.error("What is stored on %s cannot be read and is left out: %s", name.decode(), error)
    return messages
