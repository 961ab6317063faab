"""What browsers send along with a handshake: the session's cookie, and the Origin of the page."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from django.conf import settings

from .findings import Problem, Row
from .own_hosts import own_names

# domains that are no site of anybody's, and below which everybody may have one: a few of publicsuffix.org's
SHARED = {
    "ac.uk", "co.in", "co.jp", "co.kr", "co.nz", "co.uk", "co.za", "com.ar", "com.au", "com.br", "com.cn", "com.mx",
    "com.sg", "com.tr", "com.tw", "com.ua", "gov.uk", "ne.jp", "net.au", "or.jp", "org.au", "org.uk",
    "azurewebsites.net", "cloudfront.net", "fly.dev", "github.io", "gitlab.io", "herokuapp.com", "netlify.app",
    "ngrok-free.app", "ngrok.io", "onrender.com", "pages.dev", "vercel.app", "web.app", "workers.dev",
}  # fmt: skip
# names of one's own network (RFC 2606, 6761, 6762, 8375, and what is in use), which are no site of the world's
LOCAL = {"arpa", "corp", "example", "home", "internal", "intranet", "invalid", "lan", "local", "localhost", "test"}


def rows() -> Iterator[Row]:
    """Look at the cookie, and at the pages that may connect."""
    yield _cookie()
    yield _origins()


def _https_by() -> str:
    """Return the setting that tells that the site is one of https; "" if none does."""
    names = ("SECURE_SSL_REDIRECT", "SECURE_HSTS_SECONDS", "SECURE_PROXY_SSL_HEADER")
    return next((name for name in names if getattr(settings, name)), "")


def _cookie() -> Row:
    same_site, is_secure = settings.SESSION_COOKIE_SAMESITE, settings.SESSION_COOKIE_SECURE
    problems: tuple[Problem, ...] = ()
    if same_site == "None" and not is_secure:
        problem = Problem(
            id="wsredis.E011",
            text="SESSION_COOKIE_SAMESITE is 'None' and SESSION_COOKIE_SECURE False: browsers drop such a cookie, so "
            "that nobody is logged in, on pages and sockets.",
            hint="SESSION_COOKIE_SECURE = True",
        )
        problems = (problem,)
    elif (named := _https_by()) and not is_secure:
        problem = Problem(
            id="wsredis.W017",
            text=f"{named} is set, so the site is one of https, and SESSION_COOKIE_SECURE is False: browsers send the "
            "session's cookie by http and ws, too, where others may read it.",
            hint="SESSION_COOKIE_SECURE = True",
        )
        problems = (problem,)
    found = f"SameSite {same_site}, {'' if is_secure else 'not '}Secure"
    return Row(checked="session cookie", found=found, problems=problems)


def _origins() -> Row:
    origins = list(settings.CSRF_TRUSTED_ORIGINS)
    problems = (*_plain(origins), *_wide(origins), *_elsewhere(origins))
    return Row(checked="CSRF_TRUSTED_ORIGINS", found=", ".join(origins) or "none", problems=problems)


def _plain(origins: list[str]) -> Iterator[Problem]:
    is_https = settings.SECURE_SSL_REDIRECT or settings.SESSION_COOKIE_SECURE
    for origin in origins if is_https else ():
        secure = origin.replace("http://", "https://", 1)
        if secure not in origins:
            yield Problem(
                id="wsredis.W012",
                text=f"CSRF_TRUSTED_ORIGINS has {origin!r} and no https, but the site is one of https: pages there "
                "are refused.",
                hint=f"Add {secure!r} to CSRF_TRUSTED_ORIGINS.",
            )


def _wide(origins: list[str]) -> Iterator[Problem]:
    """Yield those whose `*` stands for sites that belong to others. `https://*` alone stands for none."""
    for origin in origins:
        name = _name(origin)
        domain = name.removeprefix("*.")
        if name.startswith("*.") and domain not in LOCAL and ("." not in domain or domain in SHARED):
            yield Problem(
                id="wsredis.W018",
                text=f"CSRF_TRUSTED_ORIGINS has {origin!r}: pages of everybody who has a name below {domain} connect "
                "as the visitor who looks at them.",
                hint='Name your own: CSRF_TRUSTED_ORIGINS = ["https://app.example.com"], or "https://*.example.com".',
            )


def _elsewhere(origins: list[str]) -> Iterator[Problem]:
    """Yield those of another site, from which browsers send no cookie.

    A site is what somebody registers, of two labels or more (example.com, example.co.uk). So names whose last two
    labels differ are of different sites; of others this cannot be told. Whether http and https are one, browsers
    do not agree.
    """
    same_site = settings.SESSION_COOKIE_SAMESITE
    own = {_end(name) for name in own_names() if _is_public(name)}
    if same_site not in ("Lax", "Strict") or not own or "*" in settings.ALLOWED_HOSTS:
        return  # behind a proxy that passes on a Host of its own the names of the site are not known
    for origin in origins:
        name = _name(origin).removeprefix("*.")
        if _is_public(name) and _end(name) not in own:
            yield Problem(
                id="wsredis.W019",
                text=f"CSRF_TRUSTED_ORIGINS has {origin!r}, which is of another site than ALLOWED_HOSTS, and "
                f"SESSION_COOKIE_SAMESITE is {same_site!r}: websockets from there come without the session's cookie.",
                hint='SESSION_COOKIE_SAMESITE = "None" and SESSION_COOKIE_SECURE = True, if its visitors shall be '
                "logged in; else skip this check.",
            )


def _name(origin: str) -> str:
    """Return the host of an Origin, in lower case, maybe with `*.` before it; "" if there is none."""
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _is_public(name: str) -> bool:
    """Tell whether a name may be one of a site in the world, and no address."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return "." in name.strip(".") and name.rpartition(".")[2] not in LOCAL
    return False


def _end(name: str) -> str:
    return ".".join(name.strip(".").split(".")[-2:])
