"""The options of wsinspect: which of them go together, and what they mean."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import Error as DatabaseError

from django_wsredis import live
from django_wsredis.channels import AUDIENCES
from django_wsredis.commands import PAGE_MESSAGES
from django_wsredis.control import MAX_ROWS, NOT_AUTHORIZED, Filter
from django_wsredis.recipients import read_audiences

from .arguments import (
    add_audiences,
    count,
    interval,
    is_given,
    is_text,
    option,
    position,
    require_facility,
    require_names,
)
from .display.words import printable
from .known import find_absent
from .orders import CHANNELS, SOCKETS, WORKERS, Order

DEFAULT_LIMIT = 20
FRAME_LIMIT = 50  # of a live view, which has room for no more
DEFAULT_SECONDS = 1.0

FILTERS = ("facility", "channel", "groups", "users", "sessions", "worker")
ONE_CHANNEL = ("facility", "broadcast", "groups", "users", "sessions")

# What is asked for → the options that go with it. Without any of these words it is the overview.
MODES = {
    "": (*FILTERS, "limit", "sort", "watch", "json"),
    "sockets": (*FILTERS, "limit", "sort", "watch", "json"),
    "messages": (*ONE_CHANNEL, "limit", "since", "before", "json"),
    "tail": ("json",),
    "disconnect": (*FILTERS, "everybody", "yes", "code", "reason", "json"),
}
SORTS = {"": tuple(WORKERS | CHANNELS), "sockets": tuple(SOCKETS)}


def add_options(parser: CommandParser) -> None:
    """Add all options."""
    what = parser.add_argument_group("what to show or do; without any of these it is the overview")
    add = what.add_argument
    add("--sockets", action="store_true", help="a row for each socket")
    add("--messages", action="store_true", help="what one channel keeps, oldest first: needs --facility")
    add("--tail", metavar="WHAT", help="follow messages of a channel or facility, or of a pattern of either")
    add("--disconnect", action="store_true", help="close the sockets that the filters name, after asking")

    filters = parser.add_argument_group("filters: all that are given must hold; patterns are the shell's (chat/*)")
    add = filters.add_argument
    add("--facility", metavar="PATTERN", help="sockets that have such a facility, and its channels")
    add("--channel", metavar="PATTERN", help="sockets that hear such a channel, as in 'group:*:chat'")
    add_audiences(filters, "those of a {}; may be repeated, and any of them will do")
    add("--worker", metavar="ID", help="a worker, by its id or how that begins: host:pid")

    looks = parser.add_argument_group("how to show it")
    add = looks.add_argument
    add(
        "--watch", nargs="?", type=interval, const=DEFAULT_SECONDS, metavar="SECONDS",
        help="look again and again, on the whole screen; each second by default",
    )  # fmt: skip
    add("--json", action="store_true", help="one JSON object; with --watch and --tail one on each line")
    add("--sort", metavar="WORD", help=f"{', '.join(SORTS[''])}; of sockets: {', '.join(SORTS['sockets'])}")
    add("--limit", type=count, metavar="N", help=f"rows at most, {DEFAULT_LIMIT} by default")

    kept = parser.add_argument_group("with --messages")
    add = kept.add_argument
    add("--broadcast", action="store_true", help="everybody's channel, unless --user, --group or --session is given")
    add("--since", type=position, metavar="ID", help="the messages after this one")
    add("--before", type=position, metavar="ID", help="the messages before this one")

    closing = parser.add_argument_group("with --disconnect")
    add = closing.add_argument
    add("--everybody", action="store_true", help="all sockets, in place of filters")
    add("--yes", action="store_true", help="do not ask")
    add("--code", type=int, help=f"close code, {NOT_AUTHORIZED} by default: wsredis.js does not come back")
    add("--reason", help="a text that the browser gets, too")


def read_mode(options: dict[str, Any]) -> str:
    """Return what is asked for, a key of MODES. Raises CommandError for options that do not go with it."""
    chosen = [mode for mode in MODES if mode and is_given(options[mode])]
    if len(chosen) > 1:
        raise CommandError(f"Either --{chosen[0]} or --{chosen[1]}.")
    mode = chosen[0] if chosen else ""
    for name in dict.fromkeys(name for names in MODES.values() for name in names):
        if is_given(options[name]) and name not in MODES[mode]:
            fitting = " and ".join(f"--{other}" for other, names in MODES.items() if name in names and other)
            raise CommandError(
                f"{option(name)} is not for --{mode}." if mode else f"{option(name)} needs {fitting}: see --help."
            )
    _check_values(mode, options)
    return mode


def _check_values(mode: str, options: dict[str, Any]) -> None:
    if options["facility"] is not None:
        require_facility(options["facility"])
    require_names(options["groups"] + options["users"] + options["sessions"])
    for name in ("channel", "worker", "tail"):
        if options[name] is not None and (not options[name] or not is_text(options[name])):
            raise CommandError(f"--{name} is {options[name]!r}; it is text in UTF-8, and not empty.")
    if options["tail"] is not None:
        _check_tail(options["tail"])
    if options["sort"] is not None and options["sort"] not in SORTS[mode]:
        raise CommandError(f"--sort is {options['sort']!r}; here it is one of: {', '.join(SORTS[mode])}.")
    if mode == "messages" and options["facility"] is None:
        raise CommandError("--messages needs --facility.")
    if mode == "messages" and (options["limit"] or 0) > PAGE_MESSAGES:
        raise CommandError(f"--limit is {options['limit']}; of messages {PAGE_MESSAGES} are shown at once.")
    if options["since"] and options["before"]:
        raise CommandError("Either --since or --before.")
    if options["code"] is not None and not live.is_close_code(options["code"]):
        raise CommandError(f"--code is {options['code']}; it is 1000, 1001, 1008, 1012, 1013, or 3000 to 4999.")
    if not live.is_close_reason(options["reason"] or ""):
        raise CommandError(f"--reason is no text of up to {live.MAX_REASON_BYTES} bytes of UTF-8.")
    if (options["limit"] or 0) > MAX_ROWS:
        raise CommandError(f"--limit is {options['limit']}; it is {MAX_ROWS} at most.")


def _check_tail(what: str) -> None:
    audience, *parts = what.split(":")
    if not parts or audience not in AUDIENCES:
        require_facility(what)
    elif len(parts) != (2 if audience in ("user", "group") else 1):
        raise CommandError(
            f"--tail is {what!r}; channels are such as broadcast:chat, user:alice:chat, 'group:*:chat/*'."
        )


# What they mean


def has_filter(options: dict[str, Any]) -> bool:
    """Tell whether any filter is given."""
    return any(is_given(options[name]) for name in FILTERS)


def read_filter(options: dict[str, Any]) -> Filter:
    """Return which sockets are meant. Raises CommandError if the database cannot tell who is in a group."""
    given: dict[str, Any] = {name: options[name] or None for name in ("groups", "users", "sessions")}
    given |= {name: options[name] or "" for name in ("facility", "channel", "worker")}
    try:
        return live.meant(**given)
    except DatabaseError as error:
        raise CommandError(f"The database cannot tell who is in the groups: {error}") from error


def read_theirs(options: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the audiences that the filters name."""
    names = {name: options[name] for name in ("groups", "users", "sessions") if options[name]}
    if not names:
        return []
    return read_audiences(broadcast=False, request=None, **{"groups": (), "users": (), "sessions": (), **names})


def read_absent(options: dict[str, Any]) -> str:
    """Return in a sentence which group, user or session that is named does not exist; "" if that is not known."""
    try:
        return find_absent(*(options[name] for name in ("groups", "users", "sessions")))
    except DatabaseError:
        return ""


def narrowed(options: dict[str, Any]) -> str:
    """Return the filters in words, without sessions' keys."""
    words = [f"{name} {options[name]}" for name in ("facility", "channel", "worker") if options[name]]
    words += [f"group {name}" for name in options["groups"]]
    words += [f"user {name}" for name in options["users"]]
    words += ["a session"] * len(options["sessions"])
    return printable(", ".join(words))


def read_order(mode: str, options: dict[str, Any]) -> Order:
    """Return by what rows are sorted."""
    return Order(options["sort"] or ("out" if mode == "sockets" else "sockets"))
