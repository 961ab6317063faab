"""The transactions of this thread's databases: what waits for them to be over."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from django.db import connections

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


def open_transaction() -> BaseDatabaseWrapper | None:
    """Return a database that is inside a transaction, None if there is none."""
    return next((one for one in connections.all(initialized_only=True) if one.in_atomic_block), None)


def after_commit(function: Callable[[], None]) -> None:
    """Call a function when no database is inside a transaction any more."""
    if transaction := open_transaction():
        transaction.on_commit(lambda: after_commit(function))
    else:
        function()
