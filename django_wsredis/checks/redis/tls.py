"""The certificates of a Redis that speaks TLS, and of those around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...exceptions import BrokerUnavailable
from ..certificates import days_left, ends_soon
from ..findings import Problem, Row
from .master import Found, Master

EXPIRED = "certificate has expired"  # in the words of OpenSSL
RENEW = "Renew it, and load it, in redis-cli on that server: CONFIG SET tls-cert-file PATH"
RENEW_SENTINEL = "Renew it, in the file that tls-cert-file of its sentinel.conf names, and restart that sentinel."

TITLES = {
    "wsredis.E120": "The certificate of Redis has expired.",
    "wsredis.W121": "The certificate of Redis expires soon.",
    "wsredis.W122": "The certificate of Redis is not verified.",
}


def expired(where: str, error: BrokerUnavailable) -> Row | None:
    """Return the row for a connection that an expired certificate prevented; None if it was something else."""
    if EXPIRED not in str(error.__cause__):
        return None
    problem = Problem(
        id="wsredis.E120",
        text=f"The certificate of the Redis at {where} has expired, so it cannot be used.",
        hint=RENEW,
    )
    return Row(checked="certificate", found=f"{where}: expired", problems=(problem,))


def certificate(master: Master) -> Found:
    """Look at how long the certificate is good."""
    if master.tls is None:
        return "no TLS", ()
    if not (told := master.certificate):
        problem = Problem(
            id="wsredis.W122",
            text=f"The certificate of {master.address} is not verified: whoever is between may read and write all.",
            hint="In WSREDIS['URL'] replace ssl_cert_reqs=none by ssl_ca_certs=/path/of/ca.pem.",
        )
        return "not verified, so its end is not seen", (problem,)
    return _until(told), _soon(told, f"of {master.address}", "no worker can connect", RENEW)


def others(kind: str, told: Mapping[str, dict[str, Any]], then: str, hint: str) -> Row:
    """Return the row for servers around the masters, by their names. then: what is so after the end of one."""
    problems = [one for where, says in told.items() for one in _soon(says, f"of the {kind} {where}", then, hint)]
    texts = {where: _until(says) for where, says in told.items()}
    same = set(texts.values())
    return Row(
        checked=f"certificates of {kind}s",
        found=same.pop() if len(same) == 1 else "; ".join(f"{where}: {text}" for where, text in texts.items()),
        problems=tuple(problems),
    )


def _until(told: dict[str, Any]) -> str:
    return f"good until {told['notAfter']}"


def _soon(told: dict[str, Any], whose: str, then: str, hint: str) -> tuple[Problem, ...]:
    if not ends_soon(told):
        return ()
    text = f"The certificate {whose} expires in {days_left(told):.1f} days: from then on {then}."
    return (Problem(id="wsredis.W121", text=text, hint=hint),)
