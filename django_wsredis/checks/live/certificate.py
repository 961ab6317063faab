"""TLS: whether it is spoken, and whether a browser takes the certificate."""

from __future__ import annotations

import ssl
from dataclasses import replace
from typing import Any

from ...wording import of_them
from ..certificates import days_left, ends_soon
from ..findings import Problem, Row
from .hints import again
from .way import Broken, Way, seen

NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL

# what OpenSSL finds (X509_V_ERR_…): not yet valid, expired; the name or the address is another
DATES = (9, 10)
NAMES = (62, 64)


def look(way: Way) -> Row:
    """Look at the certificate as a browser does; --insecure goes on with a bad one."""
    if not way.is_secure:
        return seen("none: the URL begins with ws://")
    way.context = ssl.create_default_context()
    way.context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # from Python 3.13 on; browsers are not so strict
    try:
        with way.connect_safely() as tls:
            assert isinstance(tls, ssl.SSLSocket)
            told: Any = tls.getpeercert()
            version = tls.version()
    except ssl.SSLCertVerificationError as error:
        return _refused(way, error)
    except OSError as error:
        problem = Problem(
            id="wsredis.E605",
            text=f"TLS: {way.netloc} does not speak it, or none that is spoken today: {_reason(error)}.",
            hint=f"NGiNX: listen {way.port} ssl; {_lines(way)}\nOr, without TLS: {again(way).replace('wss:', 'ws:')}",
        )
        raise Broken(seen("none", problem)) from None
    return seen(f"{_told(told)}, {version}", *_soon(told))


def speaks_tls(way: Way) -> bool:
    """Tell whether TLS is spoken where the URL says that it is not."""
    try:
        with _trusting_all().wrap_socket(way.connect(), server_hostname=way.host):
            return True
    except OSError:
        return False


def _refused(way: Way, error: ssl.SSLCertVerificationError) -> Row:
    """Return the row for a certificate that no browser takes; raise Broken without --insecure."""
    way.context = _trusting_all()
    told = _read(way)
    found = f"{_told(told)}: {_reason(error)}" if told else _reason(error)
    text = f"TLS: browsers refuse the certificate of {way.host}: {found}."
    problem = _explained(way, error, text, told)
    if way.situation.is_insecure:
        return seen(found, replace(problem, id="wsredis.W609"))
    raise Broken(seen(found, problem))


def _explained(way: Way, error: ssl.SSLCertVerificationError, text: str, told: dict[str, Any]) -> Problem:
    if error.verify_code in DATES:
        hint = "Renew it: certbot renew; let the proxy read it: nginx -s reload; is the clock here right? date"
        return Problem(id="wsredis.E606", text=text, hint=hint)
    if error.verify_code in NAMES:
        hint = (
            f"Get one: certbot --nginx -d {way.host}\n"
            f"Or another server answers than the one with server_name {way.host}; that has it already: nginx -T"
        )
        if name := next((name for name in _names(told) if name[:1] not in ("", "*")), ""):
            hint += f"\nOr go to the name that it has: --live {way.shown.replace(way.host, name, 1)}"
        return Problem(id="wsredis.E607", text=text, hint=hint)
    hint = (
        f"Send the whole chain: fullchain.pem, and not cert.pem: {_lines(way)}\n"
        f"One that signed itself is for tests: {again(way, '--insecure')}"
    )
    return Problem(id="wsredis.E608", text=text, hint=hint)


def _soon(told: dict[str, Any]) -> tuple[Problem, ...]:
    if not ends_soon(told):
        return ()
    text = f"TLS: the certificate ends in {days_left(told):.1f} days, on {told['notAfter']}."
    hint = "Renew it: certbot renew; why was that not done by itself? systemctl list-timers; certbot renew --dry-run"
    return (Problem(id="wsredis.W610", text=text, hint=hint),)


def _lines(way: Way) -> str:
    folder = f"/etc/letsencrypt/live/{way.host}"
    return f"ssl_certificate {folder}/fullchain.pem; ssl_certificate_key {folder}/privkey.pem;"


def _told(told: dict[str, Any]) -> str:
    """Return the names, the issuer and the days that are left."""
    issuer = _part(told["issuer"], "organizationName") or _part(told["issuer"], "commonName")
    return f"for {', '.join(_names(told)[:3])}, by {issuer}, {of_them(round(days_left(told)), 'day')} left"


def _names(told: dict[str, Any]) -> list[str]:
    return [value for _, value in told.get("subjectAltName", ())] or [_part(told.get("subject", ()), "commonName")]


def _part(name: Any, wanted: str) -> str:
    return next((value for relative in name for key, value in relative if key == wanted), "")


def _read(way: Way) -> dict[str, Any]:
    """Return what a certificate says that is not valid; {} if that cannot be read.

    Python decodes only what it has verified: so it is trusted, for once, whatever its dates and name.
    """
    try:
        with way.connect_safely() as tls:
            assert isinstance(tls, ssl.SSLSocket)
            encoded = tls.getpeercert(binary_form=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags = ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME)
        context.load_verify_locations(cadata=encoded or b"")
        with context.wrap_socket(way.connect(), server_hostname=way.host) as tls:
            return tls.getpeercert() or {}
    except (OSError, ValueError):
        return {}


def _trusting_all() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: OSError) -> str:
    message = getattr(error, "verify_message", None) or error.strerror or str(error) or type(error).__name__
    return str(message).partition(" (_ssl.c")[0].rstrip(".")
