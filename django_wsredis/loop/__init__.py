"""The gevent side of a worker: one loop per process, in the host's own hub or in a native thread."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import Future
from queue import SimpleQueue

import gevent

from ..conf import Settings, get_settings
from .loop import Loop

STOP_SECONDS = 1.0  # for the last closing handshakes when the process ends

_loops: dict[int, Loop] = {}  # by process id: a fork has none of its own yet
_starts: dict[int, SimpleQueue[Future[Loop]]] = {}  # by process id: to the thread whose next loop is wanted
_lock = threading.Lock()
_goodbye = (1001, "the server stops")  # close code (RFC 6455, 7.4.1) and reason


def adopt_hub(settings: Settings | None = None) -> Loop:
    """Make the loop of this process live in the calling thread's gevent hub, for hosts that run one."""
    with _lock:
        loop = _loops[os.getpid()] = Loop(gevent.get_hub(), settings or get_settings())
    loop.start()
    return loop


def get_loop() -> Loop:
    """Return this process's loop; where the host did not make one it is started in a native thread."""
    pid = os.getpid()
    with _lock:
        if pid not in _loops:
            _loops[pid] = _start_in_thread()
        return _loops[pid]


def is_alive() -> bool:
    """Tell whether this process's loop turns; without one there is nothing that could be stuck. From any thread."""
    loop = _loops.get(os.getpid())
    return loop is None or loop.turns()


def _start_in_thread() -> Loop:
    started: Future[Loop] = Future()
    pid = os.getpid()
    if pid not in _starts:
        _starts[pid] = SimpleQueue()
        threading.Thread(target=_run_in_thread, args=(_starts[pid],), name="wsredis-loop", daemon=True).start()
    _starts[pid].put(started)
    return started.result()


def _run_in_thread(starts: SimpleQueue[Future[Loop]]) -> None:
    # Signals are for the main thread: uWSGI's handlers end the process in whatever thread they run.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        started = starts.get()
        try:
            loop = Loop(gevent.get_hub(), get_settings())
            loop.start()
        except BaseException as error:
            started.set_exception(error)
            continue
        started.set_result(loop)
        loop.ended.wait()


def give_up(code: int, reason: str) -> None:
    """Close this process's sockets and end its loop; the next websocket begins another one, by the settings of then.

    For tests, whose settings change within one process, on hosts that leave the loop to a thread of its own. Blocks.
    The thread and its hub stay: gevent would leave two descriptors of each hub open.
    """
    with _lock:
        loop = _loops.pop(os.getpid(), None)
    if loop is None:
        return
    loop.drain(code, reason, wait_seconds=STOP_SECONDS)
    if not loop.ended.is_set():  # something blocks it: its thread is of no use any more
        with _lock:
            _starts.pop(os.getpid(), None)


def has_begun_with_other(settings: Settings) -> bool:
    """Tell whether this process has a loop that goes by other settings than these."""
    loop = _loops.get(os.getpid())
    return loop is not None and loop.settings != settings


def expect_restart(**_: object) -> None:
    """The process is about to be restarted: sockets are told to come back."""
    global _goodbye
    _goodbye = (1012, "the server restarts")


def stop() -> None:
    """Close this process's sockets, spread over DRAIN_SECONDS, and end its loop, if it has one.

    From any thread; blocks. May be called again: uWSGI does when its last request ends, and before it exits.
    """
    # it stays the process's loop, as one that refuses: a handshake that ends meanwhile must not start another
    if loop := _loops.get(os.getpid()):
        loop.drain(*_goodbye, wait_seconds=STOP_SECONDS)
