"""What runwsserver's options mean: settings, a socket to listen on, a server. What cannot be is a CommandError."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.management.base import CommandError
from django.core.servers.basehttp import get_internal_wsgi_application
from django.urls import get_resolver

from django_wsredis import __version__, pidfile, systemd
from django_wsredis.conf import Settings, get_settings
from django_wsredis.introduction import introduce
from django_wsredis.listening import listen_tcp, listen_unix, removed_at_the_end
from django_wsredis.wsgi import WebSocketApplication

if TYPE_CHECKING:
    from django_wsredis.server import Server

DEFAULT_ADDRESS = "127.0.0.1:8000"
ADDRESS = re.compile(r"^(?:(?P<host>\[[0-9a-fA-F:]+\]|[^:\[\]]+):)?(?P<port>\d{1,5})$")


def is_reloading(options: dict[str, Any]) -> bool:
    """Tell whether Django's reloader runs the server."""
    return bool(django_settings.DEBUG and not options["noreload"])


def require_sense(options: dict[str, Any]) -> None:
    """Raise CommandError for options that cannot work."""
    if not django_settings.DEBUG and not django_settings.ALLOWED_HOSTS:
        raise CommandError("You must set settings.ALLOWED_HOSTS if DEBUG is False.")
    if options["unix"] and options["addrport"]:
        raise CommandError(f"Either {options['addrport']} or --unix {options['unix']}: it listens in one place.")
    parse_address(options["addrport"])
    if options["workers"] > 1 and is_reloading(options):
        raise CommandError("With DEBUG one process serves and reloads itself: --workers needs --noreload, or no DEBUG.")
    if systemd.offers_socket() and is_reloading(options):
        raise CommandError("With DEBUG a socket of systemd cannot be taken: add --noreload, or turn DEBUG off.")
    if options["umask"] is not None and not options["unix"]:
        raise CommandError("--umask is for the file of a unix socket: --unix PATH.")
    if options["keyfile"] and not options["certfile"]:
        raise CommandError("--keyfile belongs to a certificate: --certfile FILE.")


def settings_for(options: dict[str, Any]) -> Settings:
    """Return the project's settings, but for what the options say."""
    given = {"max_sockets": options["max_sockets"], "drain_seconds": options["drain"]}
    return replace(get_settings(), **{name: value for name, value in given.items() if value is not None})


@contextmanager
def listening(options: dict[str, Any]) -> Iterator[socket.socket]:
    """Listen, and have a pid file, inside the `with`. Raises CommandError."""
    with ExitStack() as stack:
        try:
            if options["pid"]:
                pidfile.require_unused(options["pid"])
            listener = systemd.take_socket()
            options["is_from_systemd"] = listener is not None
            listener = stack.enter_context(listener or listen(options))
            is_file = options["unix"] and not options["is_from_systemd"]
            stack.enter_context(removed_at_the_end(options["unix"] if is_file else None))
            stack.enter_context(pidfile.written(options["pid"]))
        except (systemd.WrongSockets, pidfile.ProcessRuns) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"Cannot write {options['pid']}: {reason(error)}.") from error
        yield listener


def listen(options: dict[str, Any]) -> socket.socket:
    """Return a new listening socket. Raises CommandError."""
    try:
        if options["unix"]:
            return listen_unix(options["unix"], umask=options["umask"], backlog=options["backlog"])
        return listen_tcp(*parse_address(options["addrport"]), backlog=options["backlog"])
    except OSError as error:
        where = options["unix"] or options["addrport"] or DEFAULT_ADDRESS
        is_taken = error.errno == errno.EADDRINUSE and not options["unix"]
        hint = f"; choose another: ./manage.py runwsserver {another_port(str(where))}" if is_taken else ""
        raise CommandError(f"Cannot listen on {where}: {reason(error)}{hint}.") from error


def another_port(addrport: str) -> str:
    """Return an address with another port that is often free."""
    host, colon, port = addrport.rpartition(":")
    return f"{host}{colon}{8001 if port == '8000' else 8000}"


def reason(error: OSError) -> str:
    """Return what an error is about, without the address."""
    return os.strerror(error.errno) if error.errno else str(error)


def make_server(listener: socket.socket, options: dict[str, Any], *, master: int = 0) -> Server:
    """Return what serves in this process. Raises CommandError for a certificate that is none.

    master: the process id of its supervisor, if it has one.
    """
    # gevent: only in a process that serves
    from django_wsredis.hosts.tls import load_certificate
    from django_wsredis.server import Server

    certfile, keyfile = options["certfile"], options["keyfile"]
    try:
        tls = load_certificate(certfile, keyfile) if certfile else None
    except OSError as error:
        lacking = [str(file) for file in (certfile, keyfile) if file and not file.exists()]
        files = " and ".join(lacking or [str(file) for file in (certfile, keyfile) if file])
        hint = "" if lacking else " A certificate and its key are wanted, both in PEM."
        raise CommandError(f"Cannot speak TLS with {files}: {error.strerror or error}.{hint}") from error
    introduce(f"runwsserver {__version__}", listener.getsockname(), master=master)
    application = WebSocketApplication(None if options["ws_only"] else pages())
    return Server(listener, application, settings_for(options), tls=tls, is_shared=options["workers"] > 1)


def pages() -> Any:
    """Return the project's own WSGI application, with static files if DEBUG is on."""
    application: Any = get_internal_wsgi_application()
    get_resolver().url_patterns  # noqa: B018  imports the views now: what is wrong with them ends a reload
    if django_settings.DEBUG and apps.is_installed("django.contrib.staticfiles"):
        application = StaticFilesHandler(application)
    return application


def parse_address(addrport: str | None) -> tuple[str, int]:
    """Return host and port of `port`, `host:port` or `[ipv6]:port`. Raises CommandError."""
    addrport = addrport or DEFAULT_ADDRESS
    match = ADDRESS.match(addrport)
    if match is None or int(match["port"]) > 65535:
        raise CommandError(f"{addrport!r} is not a port or address:port, such as 8000, 0.0.0.0:8000 or [::1]:8000.")
    return (match["host"] or "127.0.0.1").strip("[]"), int(match["port"])
