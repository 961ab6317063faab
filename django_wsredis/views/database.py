"""The database, for code that runs now and then for a socket that lives long."""

from __future__ import annotations

from django.db import connections
from django.db.transaction import TransactionManagementError


def release_database() -> None:
    """Close this thread's connections before it waits for a browser.

    Raises TransactionManagementError inside a transaction, which would be open for as long.
    """
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            raise TransactionManagementError(
                "The view would wait for its browser inside a transaction: leave the atomic() block before receive()."
            )
        connection.close()


def end_queries() -> None:
    """Do what Django does between two requests: close connections that are broken or older than CONN_MAX_AGE."""
    for connection in connections.all(initialized_only=True):
        connection.queries_log.clear()
        connection.close_if_unusable_or_obsolete()
