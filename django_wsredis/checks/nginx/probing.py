"""Whether somebody listens at an address. All are asked at once, and none for longer than a second."""

from __future__ import annotations

import errno
import re
import socket
import threading
import time
from collections.abc import Iterable

SECONDS = 1.0
HOST_AND_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^:]+):(?P<port>\d+)")


def probe(addresses: Iterable[str]) -> dict[str, str]:
    """Connect to each, `unix:/path` or `host:port`; return "" for one where somebody listens, or else what is wrong.

    What cannot be known is in parentheses.
    """
    found = dict.fromkeys(addresses, f"(not known: no answer within {SECONDS:g} s)")

    def ask(address: str) -> None:
        found[address] = _connect(address)

    # a thread for each, since the system's search for a name has no timeout; it may outlive us
    threads = [threading.Thread(target=ask, args=(address,), daemon=True) for address in tuple(found)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + SECONDS
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    return dict(found)


def _connect(address: str) -> str:
    path = address.removeprefix("unix:")
    match = HOST_AND_PORT.fullmatch(address)
    try:
        if path != address:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(SECONDS)
                sock.connect(path)
        elif match is None:
            return "it is no address"
        else:
            socket.create_connection((match["host"].strip("[]"), int(match["port"])), SECONDS).close()
    except TimeoutError:
        return f"no answer within {SECONDS:g} s"
    except socket.gaierror:
        return "there is no such host"
    except BlockingIOError:  # its queue is full: somebody listens, and is busy
        return ""
    except OSError as error:
        return _reason(error)
    return ""


def _reason(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"(not known: you may not open it yourself: {error.strerror})"
    return {
        errno.ENOENT: "there is no such socket",
        errno.ECONNREFUSED: "nobody listens",
    }.get(error.errno or 0, error.strerror or str(error))
