"""What systemd and a service tell each other: the socket that it made, and that we are ready.

sd_listen_fds(3) and sd_notify(3); the few lines here are the whole protocol.
"""

from __future__ import annotations

import os
import socket
import time

FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START


class WrongSockets(Exception):
    """What systemd hands over is not one listening stream socket."""


def offers_socket() -> bool:
    """Tell whether systemd hands sockets to this process."""
    return os.environ.get("LISTEN_PID") == str(os.getpid())


def take_socket() -> socket.socket | None:
    """Return the listening socket that systemd hands to this process, None if it does not. Raises WrongSockets.

    Our environment names it no more afterwards: our children do not get it from systemd.
    """
    is_ours = offers_socket()
    _, count, _ = (os.environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if not is_ours:
        return None
    if count != "1":
        raise WrongSockets(f"systemd hands over {count} sockets, and one is needed: one ListenStream= in one .socket")
    try:
        listener = socket.socket(fileno=FIRST_DESCRIPTOR)
    except OSError as error:
        raise WrongSockets(f"systemd's descriptor {FIRST_DESCRIPTOR} is no socket: {error.strerror}") from error
    is_listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if listener.type != socket.SOCK_STREAM or not is_listening:
        listener.close()
        raise WrongSockets("systemd's socket does not listen for streams; write ListenStream=, and Accept=no")
    listener.set_inheritable(False)
    listener.setblocking(False)
    return listener


class Notifier:
    """Tells systemd how the service is, for Type=notify and Type=notify-reload. Without systemd it does nothing."""

    def __init__(self) -> None:
        address = os.environ.pop("NOTIFY_SOCKET", "")
        # the first byte of an abstract name is written as "@"
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self, status: str) -> None:
        """All workers accept; after a reload: they run the new code, or the old code because the new one is broken."""
        self._send(READY=1, STATUS=status, MAINPID=os.getpid())

    def reloading(self) -> None:
        """A reload begins; `ready()` ends it."""
        self._send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000, STATUS="Reloading")

    def stopping(self) -> None:
        """The service ends."""
        self._send(STOPPING=1, STATUS="Stopping")

    def _send(self, **values: object) -> None:
        if not self._address:
            return
        text = "\n".join(f"{name}={value}" for name, value in values.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            try:
                sock.sendto(text.encode(), self._address)
            except OSError:  # sd_notify(3) advises to ignore it: nothing depends on it but systemd's own view
                pass
