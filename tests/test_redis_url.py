"""The URLs of sentinels and clusters: what is read, what is refused, and what is shown of them."""

from __future__ import annotations

import pytest

from django_wsredis.redis_errors import shown_url
from django_wsredis.redis_url import RedisUrl, is_cluster, is_several, parse
from django_wsredis.rules import problems


def test_sentinels_are_read() -> None:
    assert parse("redis+sentinel://a:p%40@h:1,[::1]:2/my%20service/3?sentinel_password=x") == RedisUrl(
        has_sentinels=True,
        has_tls=False,
        username="a",
        password="p@",
        addresses=(("h", 1), ("::1", 2)),
        service="my service",
        db=3,
        query="sentinel_password=x",
    )


def test_a_cluster_is_read() -> None:
    assert parse("rediss+cluster://:p@h:1,[fe80::1]:2/") == RedisUrl(
        has_sentinels=False,
        has_tls=True,
        username=None,
        password="p",
        addresses=(("h", 1), ("fe80::1", 2)),
        service="",
        db=0,
        query="",
    )


@pytest.mark.parametrize("url", ["redis+sentinel://h:1/s", "redis+sentinel://h:1/s/", "redis+sentinel://h:1/s/0"])
def test_the_first_database_need_not_be_named(url: str) -> None:
    assert (parse(url).service, parse(url).db) == ("s", 0)


@pytest.mark.parametrize(
    ("url", "must_be"),
    [
        ("redis+sentinel://h:1", "ends in the name of the sentinels' service"),
        ("redis+sentinel://h:1/", "ends in the name of the sentinels' service"),
        ("redis+sentinel://h:1/s/x", "ends in the name of the sentinels' service"),
        ("redis+sentinel://h/s", "names each host with its port"),
        ("redis+sentinel://h:1,i/s", "names each host with its port"),
        ("redis+sentinel:///s", "names each host with its port"),
        ("redis+cluster://", "names each host with its port"),
        ("redis+cluster://h", "names each host with its port"),
        ("redis+cluster://h:0", "names each host with its port"),
        ("redis+cluster://h:65536", "names each host with its port"),
        ("redis+cluster://::1:6379", "names each host with its port"),
        ("redis+cluster://h:1,", "names each host with its port"),
        ("redis+cluster://h:1/1", "a cluster has no service, and only database 0"),
        ("redis+cluster://:pa/ss@h:1", "a cluster has no service, and only database 0"),
        ("redis+cluster://:pa?ss@h:1", "names each host with its port"),
    ],
)
def test_what_is_wrong_is_said_without_the_login(url: str, must_be: str) -> None:
    with pytest.raises(ValueError, match=must_be):
        parse(url)
    ((problem, hint),) = problems({"URL": url})
    assert problem == f"WSREDIS['URL'] is {'(hidden)' if '@' in url else repr(url)}."
    assert hint.startswith("It must be a URL that ")
    assert must_be in hint
    assert "pa" not in hint.split()
    assert "ss@h" not in hint


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis+sentinel://a:b@h:1,i:2/s/0?sentinel_password=c", "redis+sentinel://h:1,i:2/s/0"),
        ("rediss+sentinel://[::1]:1/s", "rediss+sentinel://[::1]:1/s"),
        ("redis+cluster://:b@h:1,i:2", "redis+cluster://h:1,i:2"),
        ("rediss+cluster://h:1?ssl_ca_certs=x", "rediss+cluster://h:1"),
    ],
)
def test_a_url_is_shown_without_logins(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize("url", ["redis://h", "rediss://h", "unix:///s", "embedded://", "redis", ""])
def test_a_single_server_is_none_of_these(url: str) -> None:
    assert not is_several(url)
    assert not is_cluster(url)


def test_kinds_are_told_apart() -> None:
    assert is_several("redis+sentinel://h:1/s")
    assert not is_cluster("redis+sentinel://h:1/s")
    assert is_several("rediss+cluster://h:1")
    assert is_cluster("rediss+cluster://h:1")
