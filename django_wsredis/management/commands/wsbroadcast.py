"""`./manage.py wsbroadcast`: push one message from the shell."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_wsredis import live
from django_wsredis.channels import audience_text
from django_wsredis.conf import get_settings
from django_wsredis.exceptions import BrokerUnavailable
from django_wsredis.live import Count
from django_wsredis.management.arguments import (
    add_audiences,
    is_text,
    require_facility,
    require_names,
    shown_path,
)
from django_wsredis.management.help import DocumentedCommand
from django_wsredis.management.known import require_known
from django_wsredis.publisher import KEY_TEXT, RETRY_TEXT, Publisher, Receipt, is_key, is_retry
from django_wsredis.recipients import EVERYWHERE
from django_wsredis.rules import EXPIRE_TEXT, is_expire
from django_wsredis.wording import of_them

EXAMPLES = """examples:
  # everybody who subscribed to broadcast, on every facility
  ./manage.py wsbroadcast "hello"
  ./manage.py wsbroadcast --group staff "the site sleeps at 5"
  ./manage.py wsbroadcast --user alice --user bob --facility inbox --json '[3]'
  date | ./manage.py wsbroadcast --facility clock --expire 60 -
  # once, however often it is run
  ./manage.py wsbroadcast --facility news --key 2.1 --retry 30 "2.1 is out"
"""


class Command(DocumentedCommand):
    help = "Send a message to everybody, or to groups, users and sessions, from the shell."
    examples = EXAMPLES
    cut_off_status = 0  # it is sent

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("message", help="the text; - reads it from standard input")
        parser.add_argument("--facility", help="the URL's tail that it goes to; every facility if not given")
        add_audiences(parser, "a {} that gets it; may be repeated")
        parser.add_argument("--expire", type=int, metavar="S", help="keep it for S seconds, for those who join later")
        parser.add_argument("--key", help="send it once only: not again with the same key, for some minutes at least")
        parser.add_argument("--retry", type=float, metavar="S", help="while Redis is away, try again for S seconds")
        parser.add_argument("--json", action="store_true", help="refuse a message that is not JSON")
        parser.add_argument("--force", action="store_true", help="send even to who does not exist")
        parser.add_argument("--dry-run", action="store_true", help="say how many it would reach, and send nothing")

    def handle(self, **options: Any) -> None:
        message = read_message(options["message"], is_json=options["json"])
        facility = options["facility"]
        if facility is not None:
            require_facility(facility)
        require_names(options["groups"] + options["users"] + options["sessions"])
        if options["expire"] is not None and facility is None:
            raise CommandError("--expire needs --facility: a message for every facility is kept on none.")
        if options["expire"] is not None and not is_expire(options["expire"]):
            raise CommandError(f"--expire is {options['expire']}; it is {EXPIRE_TEXT}.")
        if options["expire"] and get_settings().history_of(facility):
            raise CommandError(f"--expire is not for {facility!r}: WSREDIS['HISTORY'] says what is kept there.")
        if options["key"] is not None and not is_key(options["key"]):
            raise CommandError(f"--key is {options['key']!r}; it is {KEY_TEXT}.")
        if options["retry"] is not None and not is_retry(options["retry"]):
            raise CommandError(f"--retry is {options['retry']:g}; it is {RETRY_TEXT}.")
        if not options["force"]:
            require_known(options["groups"], options["users"], options["sessions"])
        try:
            self.send(message, facility, options)
        except BrokerUnavailable as error:
            raise CommandError(str(error)) from error

    def send(self, message: str, facility: str | None, options: dict[str, Any]) -> None:
        """Publish, and say in one line to whom and how many sockets got it."""
        audiences = {key: options[key] for key in ("groups", "users", "sessions")}
        publisher = Publisher(
            facility=EVERYWHERE if facility is None else facility,
            broadcast=not any(audiences.values()),
            **audiences,
        )
        who = ", ".join(audience_text(*audience) for audience in publisher.audiences)
        where = "every facility" if facility is None else f"facility {facility}"
        if options["dry_run"]:
            found = live.hearers(publisher)
            reached = sockets(found, unanswered=len(found.silent))
            self.stdout.write(f"Would send {of_them(len(message.encode()), 'byte')} to {who} on {where} → {reached}")
            self.say_path(facility, found)
            return
        given = {name: options[name] for name in ("expire", "key", "retry")}
        receipt = publisher.publish_message(message, on_commit=False, receipt=True, **given)
        assert receipt is not None  # it waits for no commit
        reached = sockets(receipt, unanswered=receipt.unanswered)
        self.stdout.write(f"Sent to {who} on {where} → {reached}")
        if not (receipt.sockets or receipt.unanswered):
            self.stdout.write(what_became(facility, receipt, options))
        self.say_path(facility, receipt)

    def say_path(self, facility: str | None, found: Count | Receipt) -> None:
        """Say where browsers listen, if nobody does and the name may be wrong."""
        if facility is not None and not found.sockets and (path := shown_path(facility)):
            self.stdout.write(path)


def sockets(found: Count | Receipt, *, unanswered: int) -> str:
    """Return how many sockets there are, whose, and where; and of how many workers that is not known."""
    if found.sockets:
        users = f" of {of_them(found.users, 'user')}" if found.users else ""
        text = f"{of_them(found.sockets, 'socket')}{users} on {of_them(found.workers, 'worker')}"
        text += f" in {found.seconds * 1000:.0f} ms"
    else:
        text = "no socket"
    return text + (f"; {of_them(unanswered, 'worker')} did not say how many it has" if unanswered else "")


def what_became(facility: str | None, receipt: Receipt, options: dict[str, Any]) -> str:
    """Say what became of a message that no socket got."""
    if receipt.is_repeated and options["key"]:
        return "It was sent with this key before, and not again."
    if receipt.is_repeated:
        return "A try whose answer was lost had sent it already."
    nobody = "Nobody is listening there now"
    if facility is not None and options["expire"] != 0 and (options["expire"] or get_settings().keep_of(facility)):
        return f"{nobody}. It is kept for those who join."
    return f"{nobody}, and it is not kept: WSREDIS['HISTORY'], or --expire, says what is."


def read_message(given: str, *, is_json: bool) -> str:
    """Return the message, from standard input for `-`. Raises CommandError if it is empty, or no JSON."""
    if given == "-":
        try:
            given = sys.stdin.read().removesuffix("\n")
        except UnicodeDecodeError as error:
            raise CommandError(f"Standard input is not text: {error}") from error
    if not given:
        raise CommandError("The message is empty.")
    if not is_text(given):
        raise CommandError("The message is not text in UTF-8.")
    if is_json:
        try:
            json.loads(given, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise CommandError(f"The message is not JSON: {error}") from error
    return given


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number there")
