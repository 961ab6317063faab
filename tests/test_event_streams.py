"""Event streams, over every host: the same messages by the same rules as websockets, and what pages post beside them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_wsredis import publish

from .event_source import EventSource, post
from .servers import Site
from .test_sites import facility, host, other_site, site  # noqa: F401  fixtures

LISTEN = "?subscribe-broadcast"


def test_it_begins(site: Site, facility: str) -> None:
    with EventSource(site.port, facility + LISTEN) as source:
        assert source.status == 200, site.output
        print(source.headers)
        key = source.key
        publish("hello", facility=facility, broadcast=True)
        print(source.event(), key, source.retry)
        assert post(site.port, facility + "?publish-broadcast", "tach") == 204
        print(source.event(), key, source.retry)
    print(site.output)
    assert 0
