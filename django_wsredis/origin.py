"""From whose page a handshake comes."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.request import split_domain_port
from django.utils.http import is_same_domain

from .exceptions import HandshakeError, OriginNotAllowed


def check_origin(request: HttpRequest, *, required: bool, allowed: Sequence[str] | None = None) -> None:
    """Refuse the pages of other sites, which browsers let connect with the visitor's cookies (RFC 6455, 10.2).

    Allowed are the request's own host and `CSRF_TRUSTED_ORIGINS`, or what is given instead, where `*` alone stands for
    all. A request without Origin comes from no browser; or it is for an event stream, where a page may leave it out to
    its own host and, if it need not see the answer, to any: Sec-Fetch-Site tells which (Fetch Metadata Request Headers,
    2.3), but over plain HTTP it is not sent.
    """
    try:
        host = request.get_host()
    except DisallowedHost as error:
        raise HandshakeError(f"the Host is not in ALLOWED_HOSTS: {error}") from error
    origin = request.META.get("HTTP_ORIGIN")
    if origin is None:
        site = request.META.get("HTTP_SEC_FETCH_SITE")
        if site in ("cross-site", "same-site"):
            raise OriginNotAllowed(f"the request has no Origin, and its Sec-Fetch-Site is {site}")
        if required and site != "same-origin":
            raise OriginNotAllowed("the request has no Origin, and WSREDIS['REQUIRE_ORIGIN'] is True")
        return
    if allowed is not None:
        if not any(trusted == "*" or _is_trusted(origin, trusted) for trusted in allowed):
            raise OriginNotAllowed(f"the Origin {origin!r} is not in the view's allowed_origins")
        return
    if not (_is_host(origin, host) or any(_is_trusted(origin, t) for t in settings.CSRF_TRUSTED_ORIGINS)):
        raise OriginNotAllowed(
            f"the Origin {origin!r} is neither of the host {host!r} nor in CSRF_TRUSTED_ORIGINS; "
            "add it there if it is yours, or let the proxy pass on the Host with its port"
        )


def _is_host(origin: str, host: str) -> bool:
    scheme, _, netloc = origin.partition("://")
    default_port = {"http": "80", "https": "443"}.get(scheme)
    if default_port is None:
        return False
    name, port = split_domain_port(netloc)
    host_name, host_port = split_domain_port(host)
    return bool(name) and name == host_name and (port or default_port) == (host_port or default_port)


def _is_trusted(origin: str, trusted: str) -> bool:
    """Compare as CsrfViewMiddleware does: `https://*.example.com` stands for all subdomains."""
    if "*" not in trusted:
        return origin == trusted
    try:
        wanted, given = urlsplit(trusted), urlsplit(origin)
    except ValueError:
        return False
    return wanted.scheme == given.scheme and is_same_domain(given.netloc, wanted.netloc.lstrip("*"))
