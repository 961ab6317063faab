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
    if (groups or users) and not apps.is_installed("django.contrib.auth"):
        raise CommandError("This project has no django.contrib.auth to look names up in; --force sends anyway.")
    if groups:
        group_model = apps.get_model("auth", "Group")
        for name in groups:
            _require("group", name, group_model.objects.all(), "name")
    if users:
        user_model: Any = get_user_model()
        for name in users:
            _require("user", name, user_model._default_manager.all(), user_model.USERNAME_FIELD)
    if sessions and django_settings.SESSION_ENGINE.endswith(".db") and not apps.is_installed("django.contrib.sessions"):
        raise CommandError("This project has no django.contrib.sessions to look keys up in; --force sends anyway.")
    if not all(map(_is_session, sessions)):
        raise CommandError("There is no such session. (--force sends anyway.)")


def _is_session(key: str) -> bool:
    store: Any = import_module(django_settings.SESSION_ENGINE).SessionStore
    if issubclass(store, signed_cookies.SessionStore):  # only the browser has it
        return True
    try:
        return bool(store().exists(key))
    except SuspiciousOperation:  # what cannot be a key
        return False


def _require(kind: str, name: str, rows: Any, field: str) -> None:
    if rows.filter(**{field: name}).exists():
        return
    names = list(rows.order_by(field).values_list(field, flat=True)[:MOST_NAMES])
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise CommandError(f"There is no {kind} {name!r}.{hint} (--force sends anyway.)")
