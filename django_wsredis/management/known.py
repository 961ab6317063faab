"""Do the groups and users that an operator names exist?"""

from __future__ import annotations

import difflib
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management.base import CommandError

MOST_NAMES = 10_000  # that are compared to find the nearest


def require_known(groups: list[str], users: list[str]) -> None:
    """Raise CommandError for a group or user that does not exist, naming the nearest one."""
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


def _require(kind: str, name: str, rows: Any, field: str) -> None:
    if rows.filter(**{field: name}).exists():
        return
    names = list(rows.order_by(field).values_list(field, flat=True)[:MOST_NAMES])
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise CommandError(f"There is no {kind} {name!r}.{hint} (--force sends anyway.)")
