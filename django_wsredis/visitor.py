"""Which audiences a visitor belongs to, by its request's user, groups and session."""

from __future__ import annotations

import sys

from django.http import HttpRequest

from .channels import session_digest

_KNOWN_GROUPS = "_wsredis_groups"


def session_key(request: HttpRequest | None) -> str | None:
    """Return the key of a visitor's session, None without one."""
    return getattr(getattr(request, "session", None), "session_key", None)


def own_names(request: HttpRequest | None, audience: str) -> list[str]:
    """Return the names of an audience that a visitor belongs to; groups are read from the database.

    An anonymous visitor has no user and no groups; one without a session no session.
    """
    if audience == "broadcast":
        return [""]
    if audience == "session":
        key = session_key(request)
        return [session_digest(key)] if key else []
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return []
    if audience == "user":
        return [user.get_username()]
    known: list[str] | None = getattr(request, _KNOWN_GROUPS, None)
    if known is not None:
        return known
    return list(user.groups.order_by("name").values_list("name", flat=True)) if hasattr(user, "groups") else []


def groups_text(request: HttpRequest) -> str:
    """Return the names of a visitor's groups as one text, to compare; it is shared by all that have the same.

    From then on the request knows them: a handshake needs them several times.
    """
    names = own_names(request, "group")
    setattr(request, _KNOWN_GROUPS, names)
    return sys.intern("\0".join(names))
