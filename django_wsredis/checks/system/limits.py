"""What this machine allows, against MAX_SOCKETS. Linux tells it in files; elsewhere most of it is not seen."""

from __future__ import annotations

import re
import resource
from pathlib import Path

from .. import kernel
from ..findings import Problem, Row, skipped

CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")  # of a container

RESERVED_FILES = 64  # of a worker, that are no sockets: as in loop/loop.py
BACKLOG = 1024  # connections that wait to be accepted: as in listening.py, and in what `wscheck --emit` prints
USUAL_SOFT_LIMIT = 1024  # of a login, and of systemd's services

# What a worker grows by for an idle socket that speaks wsredis.v1, and the kernel for a TCP socket: docs/scaling.rst,
# measured with 5,000 sockets. docs/benchmarks.rst has 2.2 to 4.1 kB for the first, by host.
WORKER_BYTES = 3_300
KERNEL_BYTES = 5_000

TITLES = {
    "wsredis.W551": "The hard limit of open files is below MAX_SOCKETS.",
    "wsredis.W552": "The soft limit of open files is below MAX_SOCKETS.",
    "wsredis.I553": "The soft limit of open files is low.",
    "wsredis.W554": "The kernel lets few connections wait to be accepted (net.core.somaxconn).",
    "wsredis.W555": "A proxy has fewer ports than MAX_SOCKETS for one TCP address of a worker.",
    "wsredis.W556": "Memory is not enough for MAX_SOCKETS.",
}


def open_files(max_sockets: int | None) -> Row:
    """Look at how many files a server that is started from here may open: each socket is one."""
    soft, hard = (
        most if most != resource.RLIM_INFINITY else None for most in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    needed = (max_sockets or 0) + RESERVED_FILES
    found = f"soft limit {_number(soft)}, hard limit {_number(hard)}; MAX_SOCKETS {_number(max_sockets, 'not set')}"
    enough = max(20_000, -(-needed // 1000) * 1000)
    hint = (
        f"In the server's systemd unit: LimitNOFILE={enough}\nIn the shell that starts it: ulimit -n {enough}\n"
        "Its unit may say so already: this is the limit of who runs wscheck."
    )
    problem = None
    if max_sockets and hard is not None and hard < needed:
        text = (
            f"A server that is started from here may open {hard:,} files (hard limit), and MAX_SOCKETS is "
            f"{max_sockets:,}: a worker that has {max(0, hard - RESERVED_FILES):,} sockets can take no more."
        )
        problem = Problem(id="wsredis.W551", text=text, hint=hint)
    elif max_sockets and soft is not None and soft < needed:
        text = (
            f"A server that is started from here may open {soft:,} files (soft limit), and MAX_SOCKETS is "
            f"{max_sockets:,}. runwsserver raises it as far as the hard limit; uWSGI and gunicorn do not."
        )
        problem = Problem(id="wsredis.W552", text=text, hint=hint)
    elif not max_sockets and soft is not None and soft <= USUAL_SOFT_LIMIT:
        text = (
            f"A server that is started from here may open {soft:,} files (soft limit): a worker of uWSGI or gunicorn "
            f"takes {max(0, soft - RESERVED_FILES):,} sockets. runwsserver raises it as far as the hard limit."
        )
        problem = Problem(id="wsredis.I553", text=text, hint=hint)
    return Row(checked="open files", found=found, problems=(problem,) if problem else ())


def _number(number: int | None, none: str = "none") -> str:
    return none if number is None else f"{number:,}"


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


def memory(max_sockets: int | None) -> Row:
    """Look whether there is memory for as many sockets as one worker may have."""
    available = _available_bytes()
    if available is None:
        return skipped("memory", f"{kernel.PROC}/meminfo cannot be read here")
    found = f"{_size(available)} available; {(WORKER_BYTES + KERNEL_BYTES) / 1000:g} kB a socket"
    if max_sockets is None:
        return Row(checked="memory", found=f"{found}; MAX_SOCKETS not set")
    needed = max_sockets * (WORKER_BYTES + KERNEL_BYTES)
    found += f", {_size(needed)} for MAX_SOCKETS"
    if needed <= available:
        return Row(checked="memory", found=found)
    problem = Problem(
        id="wsredis.W556",
        text=f"{_size(available)} of memory are available, and one worker needs {_size(needed)} for {max_sockets:,} "
        f"sockets: {WORKER_BYTES:,} bytes for each in the worker, {KERNEL_BYTES:,} in the kernel.",
        hint=f"WSREDIS['MAX_SOCKETS'] = {available // (WORKER_BYTES + KERNEL_BYTES)} at most, divided by the workers; "
        "a proxy on this machine needs more than they do: docs/scaling.rst.",
    )
    return Row(checked="memory", found=found, problems=(problem,))


def _available_bytes() -> int | None:
    """Return what may still be used, also by the limit of a container."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB", kernel.text("meminfo"), re.M)
    if match is None:
        return None
    try:
        most = CGROUP_MEMORY.read_text().strip()
    except OSError:  # no container, or of another kind
        most = ""
    return min(int(match[1]) * 1024, int(most)) if most.isdigit() else int(match[1]) * 1024


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
