"""What the commands' options may be, and those that several have; argparse or a CommandError says what is wrong."""

from __future__ import annotations

import math
import re
from argparse import ArgumentTypeError
from typing import Any
from urllib.parse import quote

from django.core.management.base import CommandError

from django_wsredis.channels import facility_problem, is_position
from django_wsredis.conf import get_settings

MIN_INTERVAL_SECONDS = 0.1
MAX_INTERVAL_SECONDS = 86400.0


def count(text: str) -> int:
    """Return a whole number above 0."""
    if not re.fullmatch("[0-9]+", text) or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def octal(text: str) -> int:
    """Return a umask, which is written as three octal digits."""
    if not re.fullmatch("0?[0-7]{3}", text):
        raise ArgumentTypeError(f"{text!r} is not an octal umask, such as 007 or 022")
    return int(text, 8)


def position(text: str) -> str:
    """Return the id of a message."""
    if not is_position(text):
        raise ArgumentTypeError(f"{text!r} is not the id of a message, such as 1700000000000-0")
    return text


def seconds(text: str) -> float:
    """Return a number of seconds, or 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number


def interval(text: str) -> float:
    """Return a number of seconds from one look to the next."""
    if (number := seconds(text)) < MIN_INTERVAL_SECONDS:
        raise ArgumentTypeError(f"{text!r} is too often: it is {MIN_INTERVAL_SECONDS:g} or more")
    if number > MAX_INTERVAL_SECONDS:
        raise ArgumentTypeError(f"{text!r} is too long: it is a day, {MAX_INTERVAL_SECONDS:g}, or less")
    return number


def add_audiences(parser: Any, help: str) -> None:
    """Add --group, --user and --session, each of which may be repeated. `help` has `{}` for the word."""
    for word in ("group", "user", "session"):
        parser.add_argument(
            f"--{word}", action="append", default=[], metavar=word[0].upper(), dest=f"{word}s", help=help.format(word)
        )


def read_channel(options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `history()` that --facility and one audience give, everybody by default.

    Raises CommandError if they name several channels.
    """
    given = {name: options[name] for name in ("broadcast", "groups", "users", "sessions") if options[name]}
    if len(given) > 1 or any(len(names) > 1 for names in given.values() if names is not True):
        raise CommandError("One channel at a time: --broadcast, or one --group, --user or --session.")
    return {"facility": options["facility"], **(given or {"broadcast": True})}


def channel_words(options: dict[str, Any]) -> list[str]:
    """Return the options that name the channel again; a session's key is not repeated."""
    words = ["--facility", options["facility"]]
    for name in options["groups"]:
        words += ["--group", name]
    for name in options["users"]:
        words += ["--user", name]
    return words + ["--session", "KEY"] * bool(options["sessions"])


def require_facility(facility: str) -> None:
    """Raise CommandError for what is no facility."""
    if problem := facility_problem(facility):
        raise CommandError(f"{facility!r} is no facility: {problem}.")


def is_given(value: Any) -> bool:
    """Tell whether an option was given."""
    return not (value is None or value is False or value == [])


def option(name: str) -> str:
    """Return how an option is written."""
    return f"--{(name.removesuffix('s') if name in ('groups', 'users', 'sessions') else name).replace('_', '-')}"


def shown_path(facility: str) -> str:
    """Return in a sentence the path of a facility whose name is easily taken for a path itself; "" for any other.

    In a URL `?` and `#` end the path, and `%` begins a byte; what begins with WEBSOCKET_URL is a path, and no facility.
    """
    url = get_settings().websocket_url
    if set(facility) & set("?#%") or facility.startswith(url.removeprefix("/")):
        return f"Browsers reach this facility at {url}{quote(facility)}."
    return ""


def require_names(names: list[str]) -> None:
    """Raise CommandError for a name that nobody can have."""
    for name in names:
        if not name or not is_text(name):
            raise CommandError(f"{name!r} is no name: it is text in UTF-8, and not empty.")


def is_text(given: str) -> bool:
    """Tell whether UTF-8 can hold it: Python gives bytes that are no text as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in given)
