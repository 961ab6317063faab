"""The URLs of a Redis that is several servers, and what is wrong with one; those of a single server are redis-py's.

    redis+sentinel://[user:password@]host:port,host:port/service/db[?sentinel_username=…&sentinel_password=…]
    redis+cluster://[user:password@]host:port,host:port

With `rediss` instead of `redis` all of them speak TLS.
"""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

Address: TypeAlias = tuple[str, int]  # host and port

SCHEMES = ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")

_HOST_AND_PORT = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s:@\[\]]+)):(?P<port>[0-9]{1,5})")
_DATABASE = re.compile("/?[0-9]{0,6}/?")
_QUOTED = '(in a login "/?#@" are quoted)'
_PATH = re.compile(r"(?P<service>[^/]+)(?:/(?P<db>[0-9]{1,6})?)?")


class RedisUrl(NamedTuple):
    """What the URL of several servers says.

    addresses: of the sentinels, or of some of the cluster's nodes.
    service, db: the name that the sentinels know the master by, and the number of its database.
    """

    has_sentinels: bool
    has_tls: bool
    username: str | None
    password: str | None
    addresses: tuple[Address, ...]
    service: str
    db: int
    query: str


def is_several(url: str) -> bool:
    """Tell whether a URL is that of several servers."""
    return url.partition("://")[0] in SCHEMES


def is_cluster(url: str) -> bool:
    """Tell whether a URL is that of a cluster."""
    return url.partition("://")[0].endswith("+cluster")


def without_login(url: str) -> str:
    """Return a URL without the logins that it may hold."""
    scheme, _, rest = url.partition("://")
    place = rest.partition("?")[0]
    hosts, slash, path = place.partition("/")
    return f"{scheme}://{hosts.rpartition('@')[2]}{slash}{path}"


def parse(url: str) -> RedisUrl:
    """Read the URL of several servers. Raises ValueError, which says what it must be, and shows no login."""
    scheme, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    netloc, _, path = place.partition("/")
    login, _, hosts = netloc.rpartition("@")
    username, _, password = login.partition(":")
    has_sentinels = scheme.endswith("+sentinel")
    service, db = _service_and_db(path) if has_sentinels else _nothing(path)
    return RedisUrl(
        has_sentinels=has_sentinels,
        has_tls=scheme.startswith("rediss"),
        username=unquote(username) or None,
        password=unquote(password) or None,
        addresses=tuple(_address(host) for host in hosts.split(",")),
        service=service,
        db=db,
        query=query,
    )


def require_sound(url: str) -> None:
    """Raise ValueError, which says what a URL must be and shows no login, for what cannot be meant.

    redis-py would take its own defaults for what it cannot read.
    """
    if is_several(url):
        parse(url)
        return
    scheme, _, rest = url.partition("://")
    if scheme in ("unix", "embedded"):
        if rest.partition("/")[0].rpartition("@")[2]:
            raise ValueError(f"a URL with three slashes: {scheme}:///path")
        return
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018
    except ValueError:
        raise ValueError(f"a URL whose port is a number: {scheme}://host:6379/0 {_QUOTED}") from None
    if not _DATABASE.fullmatch(parts.path):
        raise ValueError(f"a URL that ends in the number of a database: {scheme}://host:6379/0 {_QUOTED}")


def shown_address(address: Address) -> str:
    """Return host and port for people."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(text: str) -> Address:
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 65536:
        # what was taken for a host may be the end of a password with an unquoted "/" or "?": it is not shown
        raise ValueError(f"a URL that names each host with its port: host:port,host:port {_QUOTED}")
    return match["ipv6"] or match["name"], int(match["port"])


def _service_and_db(path: str) -> tuple[str, int]:
    match = _PATH.fullmatch(path)
    if match is None:
        raise ValueError(
            "a URL that ends in the name of the sentinels' service, and a database: /service or /service/db"
        )
    return unquote(match["service"]), int(match["db"] or 0)


def _nothing(path: str) -> tuple[str, int]:
    if path not in ("", "0"):
        raise ValueError("a URL that ends in its hosts: a cluster has no service, and only database 0")
    return "", 0
