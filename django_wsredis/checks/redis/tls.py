"""The certificate of a Redis that speaks TLS."""

from __future__ import annotations

from ...exceptions import BrokerUnavailable
from ..certificates import SOON_DAYS, days_left
from ..findings import Problem, Row
from .master import Found, Master

TITLES = {
    "wsredis.E120": "The certificate of Redis has expired.",
    "wsredis.W121": "The certificate of Redis expires soon.",
    "wsredis.W122": "The certificate of Redis is not verified.",
}


def expired(where: str, error: BrokerUnavailable) -> Row | None:
    """Return the row for a connection that an expired certificate prevented; None if it was something else."""
    if "certificate has expired" not in str(error.__cause__):
        return None
    problem = Problem(
        id="wsredis.E120",
        text=f"The certificate of the Redis at {where} has expired, so it cannot be used.",
        hint="Renew it, and load it, in redis-cli on that server: CONFIG SET tls-cert-file PATH",
    )
    return Row(checked="certificate", found=f"{where}: expired", problems=(problem,))


def certificate(master: Master) -> Found:
    """Look at how long the certificate is good."""
    if master.tls is None:
        return "no TLS", ()
    if not (known := master.tls.getpeercert()):
        problem = Problem(
            id="wsredis.W122",
            text=f"The certificate of {master.address} is not verified: whoever is between may read and write all.",
            hint="In WSREDIS['URL'] replace ssl_cert_reqs=none by ssl_ca_certs=/path/of/ca.pem.",
        )
        return "not verified, so its end is not seen", (problem,)
    days, found = days_left(known), f"good until {known['notAfter']}"
    if days > SOON_DAYS:
        return found, ()
    problem = Problem(
        id="wsredis.W121",
        text=f"The certificate of {master.address} expires in {days:.1f} days: from then on no worker can connect.",
        hint="Renew it, and load it, in redis-cli on that server: CONFIG SET tls-cert-file PATH",
    )
    return found, (problem,)
