"""Do the groups, users and sessions that an operator names exist?"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends import signed_cookies
from django.core.exceptions import SuspiciousOperation
from django.core.management.base import CommandError

MOST_NAMES = 10_000  # that are compared to find the nearest


def require_known(groups: list[str], users: list[str], sessions: list[str]) -> None:
    """Raise CommandError for who does not exist: naming the nearest group or user, and never a session's key."""
    if reason := _unknowable(groups, users, sessions):
        raise CommandError(f"{reason}; --force sends anyway.")
    if absent := _absent(groups, users, sessions):
        raise CommandError(f"{absent} (--force sends anyway.)")


def find_absent(groups: list[str], users: list[str], sessions: list[str]) -> str:
    """Return in a sentence who does not exist; "" if all do, or if that cannot be known."""
    return "" if _unknowable(groups, users, sessions) else _absent(groups, users, sessions)


def _unknowable(groups: list[str], users: list[str], sessions: list[str]) -> str:
    """Return why they cannot be looked up; "" if they can."""
    if (groups or users) and not apps.is_installed("django.contrib.auth"):
        return "This project has no django.contrib.auth to look names up in"
    if sessions and django_settings.SESSION_ENGINE.endswith(".db") and not apps.is_installed("django.contrib.sessions"):
        return "This project has no django.contrib.sessions to look keys up in"
    return ""


def _absent(groups: list[str], users: list[str], sessions: list[str]) -> str:
    found = ""
    if groups:
        group_model = apps.get_model("auth", "Group")
        found = _first_absent("group", groups, group_model.objects.all(), "name")
    if users and not found:
        user_model: Any = get_user_model()
        found = _first_absent("user", users, user_model._default_manager.all(), user_model.USERNAME_FIELD)
    if not found and not all(map(_is_session, sessions)):
        found = "There is no such session."
    return found


def _is_session(key: str) -> bool:
    store: Any = import_module(django_settings.SESSION_ENGINE).SessionStore
    if issubclass(store, signed_cookies.SessionStore):  # only the browser has it
        return True
    try:
        return bool(store().exists(key))
    except SuspiciousOperation:  # what cannot be a key
        return False


def _first_absent(kind: str, names: list[str], rows: Any, field: str) -> str:
    for name in names:
        if rows.filter(**{field: name}).exists():
            continue
        others = list(rows.order_by(field).values_list(field, flat=True)[:MOST_NAMES])
        nearest = difflib.get_close_matches(name, others, n=1)
        return f"There is no {kind} {name!r}." + (f" Did you mean {nearest[0]!r}?" if nearest else "")
    return ""
