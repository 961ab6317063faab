"""What the kernel of this machine allows. Linux tells it in files; elsewhere it is not seen."""

from __future__ import annotations

from .. import kernel
from ..findings import Problem, Row, skipped

BACKLOG = 1024  # connections that wait to be accepted: as in listening.py, and in what `wscheck --emit` prints

TITLES = {
    "wsredis.W554": "The kernel lets few connections wait to be accepted (net.core.somaxconn).",
    "wsredis.W555": "A proxy has fewer ports than MAX_SOCKETS for one TCP address of a worker.",
}


def backlog() -> Row:
    """Look at how many connections may wait to be accepted, as when all come back after a reload."""
    most = kernel.somaxconn()
    if most is None:
        return skipped("somaxconn", f"{kernel.PROC}/sys/net/core/somaxconn cannot be read here")
    found = f"{most:,}; servers ask for {BACKLOG:,}"
    if most >= BACKLOG:
        return Row(checked="somaxconn", found=found)
    problem = Problem(
        id="wsredis.W554",
        text=f"net.core.somaxconn is {most:,}: when many browsers connect at once, those after them are refused; "
        f"and uWSGI does not start with listen = {BACKLOG}.",
        hint="sysctl -w net.core.somaxconn=4096\n"
        "To keep it, in /etc/sysctl.d/99-websockets.conf: net.core.somaxconn = 4096",
    )
    return Row(checked="somaxconn", found=found, problems=(problem,))


def ports() -> Row:
    """Tell how many connections a proxy on this machine can have to one TCP address.

    Whether there is a proxy that needs them, its own area tells: kernel.ports_row().
    """
    found = kernel.port_range()
    if found is None:
        return skipped("ports of a proxy", f"{kernel.PROC}/{kernel.UNKNOWN_PORTS}")
    text = f"{len(found):,} ({kernel.shown(found)}) to each TCP address; the area of a proxy tells if it needs more"
    return Row(checked="ports of a proxy", found=text)
