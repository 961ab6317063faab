"""Who is addressed: the audience arguments of `publish()` and `Publisher`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .channels import facility_problem, session_digest
from .visitor import own_names, session_key

if TYPE_CHECKING:
    from django.http import HttpRequest


class Special:
    """A word that stands for itself in an argument."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


SELF: Final = Special("SELF")
"""In `users`, `groups` or `sessions`: the request's own user, groups or session."""

EVERYWHERE: Final = Special("EVERYWHERE")
"""As `facility`: the audience on every facility. Such a message is never kept."""

Names: TypeAlias = "Iterable[Any] | str | Special | bool"


def require_facility(facility: Any) -> None:
    """Raise TypeError for what is no facility's name."""
    problem = facility_problem(facility) if isinstance(facility, str) else "it is a text"
    if problem:
        raise TypeError(f"facility is {facility!r}; {problem}")


def read_audiences(
    *, broadcast: bool, groups: Names, users: Names, sessions: Names, request: HttpRequest | None
) -> list[tuple[str, str]]:
    """Return the audiences that the arguments of `publish()` give, each as its kind and its name in a channel.

    Raises TypeError, also when none is named; an empty list, or SELF that is nobody, is fine.
    """
    if not broadcast and groups == users == sessions == ():
        raise TypeError("name an audience: broadcast=True, groups=…, users=… or sessions=…")
    audiences = [("broadcast", "")] if broadcast else []
    audiences += [("group", name) for name in read("groups", groups, request)]
    audiences += [("user", name) for name in read("users", users, request)]
    audiences += [("session", session_digest(key)) for key in read("sessions", sessions, request)]
    return list(dict.fromkeys(audiences))


def read(argument: str, given: Names, request: HttpRequest | None) -> list[str]:
    """Return the names that an argument of `publish()` gives: SELF stands for the request's own.

    As in ws4redis one name, and True for SELF, need no list. Raises TypeError for anything else.
    """
    if given is True or isinstance(given, (str, Special)):
        given = [SELF if given is True else given]
    if given is False or isinstance(given, (bytes, dict)) or not isinstance(given, Iterable):
        raise TypeError(f"{argument} is {given!r}; it is a list of names")
    found: list[str] = []
    for item in given:
        if item is SELF:
            found += _own(argument, request)
        else:
            found.append(_name(argument, item))
    return found


def _own(argument: str, request: HttpRequest | None) -> list[str]:
    if request is None:
        raise TypeError(f"{argument}=[SELF] needs request=…")
    if argument == "sessions":
        key = session_key(request)
        return [key] if key else []
    return own_names(request, argument.removesuffix("s"))


def _name(argument: str, item: Any) -> str:
    if argument == "users" and hasattr(item, "get_username"):
        item = item.get_username()
    elif argument == "groups" and hasattr(item, "name"):
        item = item.name
    elif argument == "sessions" and hasattr(item, "session_key"):
        item = item.session_key
    if not isinstance(item, str) or not item:
        raise TypeError(f"{argument} holds {item!r}; each item is a name that is not empty, or SELF")
    try:
        item.encode()
    except UnicodeEncodeError as error:
        raise TypeError(f"{argument} holds a name that UTF-8 cannot hold: {error}") from None
    return item
