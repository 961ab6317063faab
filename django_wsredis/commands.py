"""The commands that Redis is sent, and what their replies mean. Opens nothing.

A position in a channel is a stream id (b"1700000000000-0"): everything up to it has been seen.
"""

from __future__ import annotations

import logging
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

Command: TypeAlias = tuple[bytes | str | int, ...]

logger = logging.getLogger("django_wsredis.redis")


class Stored(NamedTuple):
    """What was read of a channel.

    messages: from old to new, each with its id.
    end: the position of the newest, also when it is not among them; None if the channel keeps nothing.
    is_whole: whether nothing is missing between the position that was asked for and the first of them.
    """

    messages: list[Message]
    end: bytes | None
    is_whole: bool


def publish_command(
    name: bytes, message: Message, keep: Keep | None, *, key: bytes | None = None, is_sharded: bool = False
) -> Command:
    """Return the command that publishes a message, and keeps it where `keep` says so, in one atomic step.

    key: with the same key twice only the first is published.
    is_sharded: for a cluster, where a message goes to the channel's own shard alone.

    Its reply is the number of workers that received the message.
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


def read_command(name: bytes, keep: Keep | None, *, since: bytes | None = None, count: int = 1) -> Command:
    """Return the command that reads up to `count` messages of a channel: after `since`, or else the newest.

    keep: of a channel with a history; one that has nothing yet gets an end, from which nothing can be missed.

    `stored()` reads its reply.
    """
    max_age = keep.seconds * 1000 if keep else 0
    begin_seconds = min(keep.seconds, MAX_BEGIN_SECONDS) if keep else 0
    return ("EVAL", READ_SCRIPT, 1, name, since or b"", count, max_age, begin_seconds)


def stored(name: bytes, reply: Any) -> Stored:
    """Read the reply to `read_command()`. What cannot be read of it is logged and left out."""
    is_whole, end, entries = reply
    messages = []
    for id, fields in entries:
        try:
            messages.append(decode(fields[1], id))
        except ValueError as error:
            logger.error("What is stored on %s cannot be read and is left out: %s", name, error)
    return Stored(messages, end or None, bool(is_whole))
