"""The transactions of this thread's databases: what waits for them to be over."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from django.db import connections

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


def open_transaction(committed: Collection[str] = ()) -> BaseDatabaseWrapper | None:
    """Return a database that is inside a transaction, None if there is none; not one of the committed aliases."""
    databases = connections.all(initialized_only=True)
    return next((one for one in databases if one.in_atomic_block and one.alias not in committed), None)


def after_commit(function: Callable[[], None], committed: Collection[str] = ()) -> None:
    """Call a function when each database that is inside a transaction has committed it.

    A database whose callback runs has: also where Django's captureOnCommitCallbacks() runs it inside the transaction of
    a TestCase, and again for as long as that adds others.
    """
    if transaction := open_transaction(committed):
        transaction.on_commit(lambda: after_commit(function, (*committed, transaction.alias)))
    else:
        function()
