"""The public API for Django's side: publish a message. Synchronous; knows no gevent."""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Required, TypedDict, Unpack, overload
from uuid import uuid4

from . import channels as names
from . import recipients, redis
from .asking import ANSWER_SECONDS, collect
from .channels import Channel
from .commands import MIN_KEY_SECONDS, REPEATED, Command, publish_command
from .conf import Keep, get_settings, keep_last
from .control import reply_name
from .exceptions import BrokerUnavailable
from .messages import Message, to_payload
from .recipients import EVERYWHERE, Names, Special
from .rules import EXPIRE_TEXT, is_expire
from .transactions import after_commit, open_transaction

if TYPE_CHECKING:
    from django.http import HttpRequest

MAX_KEY_CHARACTERS = 200  # at most 800 bytes in Redis, so it needs no digest and stays readable there
KEY_TEXT = f"a text of 1 to {MAX_KEY_CHARACTERS} characters"

# Shorter than a key is remembered, so that a late try still meets the key of the first.
MAX_RETRY_SECONDS = MIN_KEY_SECONDS - 60
RETRY_TEXT = f"a number of seconds above 0, up to {MAX_RETRY_SECONDS}"

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0

logger = logging.getLogger("django_wsredis.publisher")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """How many sockets a message was sent to: of how many users who are logged in, on how many workers.

    unanswered: how many workers (or other subscribers) received it and did not say so in time. seconds: that it took,
    from publishing to the last answer. is_repeated: whether it was not published, as all channels had its key already.
    """

    sockets: int
    users: int
    workers: int
    unanswered: int
    seconds: float
    is_repeated: bool = False


class MessageOptions(TypedDict, total=False):
    """For type checkers: the options of `publish_message()` that do not change what it returns."""

    expire: int | None
    on_commit: bool
    key: str | None
    retry: float | None


class Options(MessageOptions, total=False):
    """Those of `publish()`."""

    facility: Required[str | Special]
    broadcast: bool
    groups: Names
    users: Names
    sessions: Names
    request: HttpRequest | None


class Publisher:
    """Publishes to a fixed set of channels: every audience given, on one facility.

    facility: a path of up to 200 characters, the URL's tail; or EVERYWHERE.
    broadcast: everybody who subscribed to broadcast.
    groups, users, sessions: names (or Group and User objects, session keys), or SELF. As in ws4redis a single name
        and True, for SELF, work too. An empty list is nobody.
    request: whose user, groups and session SELF means.

    Raises TypeError for arguments of the wrong kind, or when no audience is named.
    """

    def __init__(
        self,
        *,
        facility: str | Special,
        broadcast: bool = False,
        groups: Names = (),
        users: Names = (),
        sessions: Names = (),
        request: HttpRequest | None = None,
    ) -> None:
        if facility is not EVERYWHERE:
            recipients.require_facility(facility)
        self.facility = facility
        self.audiences: list[tuple[str, str]] = recipients.read_audiences(
            broadcast=broadcast, groups=groups, users=users, sessions=sessions, request=request
        )

    @overload
    def publish_message(
        self, message: Any, *, receipt: Literal[True], **options: Unpack[MessageOptions]
    ) -> Receipt | None: ...

    @overload
    def publish_message(
        self, message: Any, *, receipt: Literal[False] = False, **options: Unpack[MessageOptions]
    ) -> int | None: ...

    def publish_message(
        self,
        message: Any,
        *,
        expire: int | None = None,
        on_commit: bool = True,
        key: str | None = None,
        retry: float | None = None,
        receipt: bool = False,
    ) -> int | Receipt | None:
        """Publish one message: str as text, bytes as binary, anything else as JSON.

        expire: seconds for which it is kept for sockets that join; None means `WSREDIS["EXPIRE"]`, 0 not at all.
            On a facility in `WSREDIS["HISTORY"]` that decides; there 0 leaves the message out of the history.
        on_commit: inside a transaction wait for its commit; after a rollback nothing is sent. An error is then
            logged, as there is nobody left to raise it to.
        key: with the same key twice, only the first is published and kept on a channel. It is remembered for as long
            as messages are kept there, and for 5 minutes at least. On EVERYWHERE it counts for all audiences at once.
        retry: while Redis is away, try again for so many seconds; no try begins later. Without a key it makes one, so
            that whatever became of a try, no message comes twice. Retries after a commit block who committed.
        receipt: wait until each worker has said how many sockets it sends the message to, for a second at most, and
            return a Receipt. A socket that hears several of the channels counts once.

        Returns how many times a worker received it (a worker that serves several of the channels counts for each; a
        channel that had the key already counts nothing), None if it waits for a commit. Raises BrokerUnavailable if
        Redis is away, within seconds of the last try: some channels may then have the message, and the same key makes
        it safe to publish it again. Raises TypeError for a message that cannot be sent.
        """
        keep = _keep(expire, self.facility)
        if key is not None and not is_key(key):
            raise TypeError(f"key is {key!r}; it is {KEY_TEXT}")
        if retry is not None and not is_retry(retry):
            raise TypeError(f"retry is {retry!r}; it is {RETRY_TEXT}")
        if retry is not None and key is None:
            key = str(uuid4())
        is_delayed = on_commit and open_transaction() is not None
        reply = reply_name(get_settings().prefix) if receipt and not is_delayed else None
        payload, is_text = to_payload(message)
        commands = self._commands(Message(payload, is_text, reply=reply), keep, None if key is None else key.encode())
        if is_delayed:
            after_commit(lambda: _send_logged(commands, retry or 0))
            return None
        began_at = time.monotonic()
        replies = _send(commands, retry or 0)
        return _received(replies) if reply is None else _receipt(reply, replies, began_at)

    def _commands(self, message: Message, keep: Keep | None, key: bytes | None) -> list[Command]:
        prefix, is_sharded = get_settings().prefix, redis.is_cluster()
        if isinstance(self.facility, Special):
            addresses = [names.address(prefix, audience, name) for audience, name in self.audiences]
            message.addresses = addresses
            name = names.everywhere_name(prefix)
            return [publish_command(name, message, None, key=key, is_sharded=is_sharded)] if addresses else []
        return [
            publish_command(
                names.redis_name(prefix, Channel(audience, name, self.facility)),
                message,
                keep,
                key=key,
                is_sharded=is_sharded,
            )
            for audience, name in self.audiences
        ]


@overload
def publish(message: Any, *, receipt: Literal[True], **options: Unpack[Options]) -> Receipt | None: ...


@overload
def publish(message: Any, *, receipt: Literal[False] = False, **options: Unpack[Options]) -> int | None: ...


def publish(
    message: Any,
    *,
    facility: str | Special,
    broadcast: bool = False,
    groups: Names = (),
    users: Names = (),
    sessions: Names = (),
    request: HttpRequest | None = None,
    expire: int | None = None,
    on_commit: bool = True,
    key: str | None = None,
    retry: float | None = None,
    receipt: bool = False,
) -> int | Receipt | None:
    """Publish one message; `Publisher` and its `publish_message` say what each argument means."""
    publisher = Publisher(
        facility=facility, broadcast=broadcast, groups=groups, users=users, sessions=sessions, request=request
    )
    options: MessageOptions = {"expire": expire, "on_commit": on_commit, "key": key, "retry": retry}
    if receipt:
        return publisher.publish_message(message, receipt=True, **options)
    return publisher.publish_message(message, **options)


def is_key(value: Any) -> bool:
    """Tell whether a value can be a message's key."""
    if not (isinstance(value, str) and 0 < len(value) <= MAX_KEY_CHARACTERS):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_retry(value: Any) -> bool:
    """Tell whether a value is a time for which a publisher can try."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= MAX_RETRY_SECONDS


def _keep(expire: int | None, facility: str | Special) -> Keep | None:
    if expire is not None and not is_expire(expire):
        raise TypeError(f"expire is {expire!r}; it is {EXPIRE_TEXT}")
    if isinstance(facility, Special):
        if expire:
            raise TypeError("a message for every facility is kept on none: leave out expire, or name a facility")
        return None
    settings = get_settings()
    history = settings.history_of(facility)
    if history is not None:
        if expire:
            raise TypeError(
                f"expire is {expire!r}, but WSREDIS['HISTORY'] says for how long {facility!r} keeps messages: "
                "leave it out, or give 0 to keep nothing"
            )
        return history if expire is None else None
    seconds = settings.expire if expire is None else expire
    return keep_last(seconds)


def _send(commands: list[Command], retry_seconds: float) -> list[int]:
    """Return the reply to each command."""
    if not commands:  # SELF was nobody
        return []
    deadline = time.monotonic() + retry_seconds
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return redis.execute(commands)
        except BrokerUnavailable:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
        time.sleep(min(left, random.uniform(pause / 2, pause)))  # not all publishers at once
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def _received(replies: list[int]) -> int:
    return sum(reply for reply in replies if reply != REPEATED)


def _receipt(reply: bytes, replies: list[int], began_at: float) -> Receipt:
    received = _received(replies)
    answers = collect(reply, received, until=time.monotonic() + ANSWER_SECONDS)
    return Receipt(
        sockets=sum(answer["sockets"] for answer in answers),
        users=len({user for answer in answers for user in answer["users"]}),
        workers=len({answer["worker"] for answer in answers if answer["sockets"]}),
        unanswered=received - len(answers),
        seconds=time.monotonic() - began_at,
        is_repeated=bool(replies) and all(reply == REPEATED for reply in replies),
    )


def _send_logged(commands: list[Command], retry_seconds: float) -> None:
    try:
        _send(commands, retry_seconds)
    except Exception as error:  # the transaction is over: its owner must not see it fail now
        logger.error("A message was not sent after its transaction: %s", error)
