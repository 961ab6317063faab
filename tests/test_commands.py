"""The scripts that Redis runs."""

from __future__ import annotations

from typing import Any

import pytest

from django_wsredis.commands import Command, read_command, stored
from django_wsredis.conf import Keep

from .servers import RedisServer

KEEP = Keep(500, 600)
NAME = b"wsredis:broadcast:chat"


def microseconds(client: Any, command: Command) -> int:
    """Return how long Redis is busy with a script, at best."""

    def busy() -> int:
        client.config_resetstat()
        client.execute_command(*command)
        return int(client.info("commandstats")["cmdstat_eval"]["usec"])

    return min(busy() for _ in range(5))


@pytest.mark.parametrize("is_resumed", [True, False])
def test_a_read_of_a_large_history_keeps_redis_no_longer_than_that_of_a_page(
    redis_server: RedisServer, is_resumed: bool
) -> None:
    """Redis serves nobody else meanwhile."""
    payload = bytes(64 * 1024)
    with redis_server.client() as client:
        ids = [client.xadd(NAME, {"m": payload}) for _ in range(5)]
        read = read_command(NAME, KEEP, since=ids[0] if is_resumed else None)
        of_a_page = microseconds(client, read)
        with client.pipeline() as pipeline:
            for _ in range(495):
                pipeline.xadd(NAME, {"m": payload})
            pipeline.execute()
        assert microseconds(client, read) < 10 * of_a_page
        client.delete(NAME)


@pytest.mark.parametrize("count", [1, 6, 40, 500])
def test_the_newest_are_found_page_by_page(redis_server: RedisServer, count: int) -> None:
    """Then they are read from the oldest on."""
    with redis_server.client() as client:
        sent = [str(number).encode() * 10 for number in range(10, 50)]
        for payload in sent:
            client.xadd(NAME, {"m": payload})
        got: list[bytes] = []
        given: dict[str, Any] = {"count": count}
        while not got or got[-1] != sent[-1]:
            read = stored(NAME, client.execute_command(*read_command(NAME, KEEP, max_bytes=100, **given)))
            assert len(read.messages) <= 5
            got += [message.payload for message in read.messages]
            given = {"before": read.before, "count": read.rest} if read.before else {"since": read.messages[-1].id}
        assert got == sent[-count:]
