"""Websocket views and their connections to the database, with PostgreSQL, which shows them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from .conftest import DATABASE
from .postgres import Postgres
from .servers import RedisServer, Site, missing, run_manage, stopping, wait_until
from .test_resilience import settled, warm_up

CLASSES, FUNCTIONS = 50, 20


@pytest.fixture(scope="module")
def postgres(shared_redis: RedisServer) -> Iterator[Postgres]:
    """A PostgreSQL with the project's tables."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        missing("psycopg is not installed; it is in the extra test")
    with tempfile.TemporaryDirectory(prefix="wsr-") as folder, stopping(Postgres(Path(folder))) as postgres:
        settings = {"DATABASES": {"default": postgres.database}}
        migrated = run_manage("migrate", redis_url=shared_redis.url, settings=settings)
        assert migrated.returncode == 0, migrated.stderr
        yield postgres


@pytest.mark.parametrize("max_age", [0, 600])
def test_sockets_hold_neither_connections_nor_transactions(
    postgres: Postgres, shared_redis: RedisServer, max_age: int
) -> None:
    database = {**postgres.database, "ATOMIC_REQUESTS": True, "CONN_MAX_AGE": max_age}
    settings: dict[str, Any] = {
        "WEBSOCKET_URLCONF": "tests.project.sockets",
        "DATABASES": {"default": database},
        "WSREDIS": {"VIEW_THREADS": FUNCTIONS},
    }
    with (
        stopping(
            Site("runwsserver", "--noreload", database=DATABASE, redis_url=shared_redis.url, settings=settings)
        ) as site,
        ExitStack() as stack,
    ):
        warm_up(site)  # each thread for requests has a connection, or has had one
        at_rest = settled(lambda: len(postgres.connections()))
        assert max_age or not at_rest
        paths = ["class/queries/"] * CLASSES + ["view/queries/"] * FUNCTIONS
        sockets = [stack.enter_context(site.connect(path)) for path in paths]
        for _ in range(2):
            for socket in sockets:
                socket.send("count")
            assert [json.loads(socket.recv(15)) for socket in sockets] == [[0, False]] * len(sockets)
            wait_until(lambda: len(postgres.connections()) <= at_rest, 20, f"{at_rest} connections again")
            assert set(postgres.connections()) <= {"idle"}
