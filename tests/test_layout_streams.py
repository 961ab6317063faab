"""Event streams in every layout of the deployment guide: nothing on the way waits for more, or cuts what is silent."""

from __future__ import annotations

from django_wsredis import publish
from django_wsredis.live import connections

from .event_source import EventSource, post
from .layouts import TIMEOUT, Layout
from .servers import wait_until
from .test_layouts import LISTEN, TALK, facility, layout  # noqa: F401  fixtures


def test_each_message_arrives_before_the_next_is_sent(layout: Layout, facility: str) -> None:  # noqa: F811
    with EventSource(layout.port, facility + LISTEN, tls=layout.tls) as source:
        assert source.status == 200
        assert source.headers["content-type"] == "text/event-stream"
        for message in ("one", "two\nlines", b"\x00\xff", "x" * 100_000, "end"):
            assert publish(message, facility=facility, broadcast=True) == 1
            assert source.message() == message


def test_a_silent_stream_outlives_the_proxys_timeout(layout: Layout, facility: str) -> None:  # noqa: F811
    with EventSource(layout.port, facility + LISTEN, tls=layout.tls) as source:
        assert source.key
        for _ in range(TIMEOUT + 2):  # one each second
            assert [source.line(), source.line()] == [b":", b""]
        publish("still here", facility=facility, broadcast=True)
        while (line := source.line()) in (b":", b""):
            pass
        assert line == b"data: still here"


def test_what_a_page_posts_arrives_and_a_refusal_keeps_its_status(layout: Layout, facility: str) -> None:  # noqa: F811
    with EventSource(layout.port, facility + LISTEN, tls=layout.tls) as source:
        assert source.key
        origin = {"Origin": layout.origin}
        proxied = {**origin, "X-CSRFToken": None}
        assert post(layout.port, facility + TALK, "refused", proxied, tls=layout.tls) == 403
        assert post(layout.port, facility + TALK, "grüße", origin, tls=layout.tls) == 204
        assert post(layout.port, facility + TALK, b"\x00", origin, tls=layout.tls) == 204
        assert [source.message(), source.message()] == ["grüße", b"\x00"]
    for path, status in ((facility, 400), (facility + "?subscribe-user", 403)):
        with EventSource(layout.port, path, tls=layout.tls) as source:
            assert source.status == status


def test_a_browser_that_goes_is_forgotten(layout: Layout, facility: str) -> None:  # noqa: F811
    with EventSource(layout.port, facility + LISTEN, tls=layout.tls) as source:
        assert source.key
        assert connections(facility=facility).total == 1
    wait_until(lambda: connections(facility=facility).total == 0, what="the socket's end")
