"""`./manage.py runwsserver`: pages and websockets on one port."""

from __future__ import annotations

import atexit
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django import get_version as django_version
from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.servers.basehttp import get_internal_wsgi_application
from django.db import connections
from django.urls import get_resolver
from django.utils import autoreload

from django_wsredis import __version__, embedded, pidfile, redis, systemd
from django_wsredis.conf import Settings, get_settings
from django_wsredis.exceptions import BrokerUnavailable
from django_wsredis.listening import BACKLOG, address_of, listen_tcp, listen_unix, removed_at_the_end
from django_wsredis.management import arguments
from django_wsredis.management.help import HelpFormatter
from django_wsredis.supervisor import Supervisor
from django_wsredis.worker import Parent, find_parent
from django_wsredis.wsgi import WebSocketApplication

if TYPE_CHECKING:
    from django_wsredis.server import Server

ADDRESS = re.compile(r"^(?:(?P<host>\[[0-9a-fA-F:]+\]|[^:\[\]]+):)?(?P<port>\d{1,5})$")

EXAMPLES = """examples:
  ./manage.py runwsserver                      pages and websockets on http://127.0.0.1:8000/
  ./manage.py runwsserver 0.0.0.0:9000         on all addresses of this machine
  ./manage.py runwsserver '[::1]:8000'         on IPv6
  ./manage.py runwsserver --workers 4 --unix /run/site/web.sock --umask 007 --pid /run/site/web.pid
                                               in production, for a proxy on the same machine
  ./manage.py runwsserver 0.0.0.0:443 --certfile cert.pem --keyfile key.pem
                                               https and wss without a proxy
  ./manage.py runwsserver --ws-only --unix /run/site/ws.sock
                                               websockets alone
  kill -HUP $(cat /run/site/web.pid)           load new code, worker by worker; -TERM stops

Without DEBUG, or with --noreload, a parent process keeps the workers. Under systemd it takes the socket of a .socket
unit, and tells when it is ready and reloaded (Type=notify-reload): ./manage.py wscheck --emit systemd
"""


class Command(BaseCommand):
    help = "Serve Django's pages and websockets from one gevent loop; with DEBUG also static files, with reloading."
    requires_system_checks: list[str] = []  # they run in the process that serves, at each reload

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, formatter_class=HelpFormatter, epilog=EXAMPLES, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("addrport", nargs="?", default="127.0.0.1:8000", help="[address:]port, 127.0.0.1:8000 by default")
        add("--unix", type=Path, metavar="PATH", help="listen on a unix socket instead")
        add("--umask", type=arguments.octal, metavar="OCTAL", help="of that socket: 007 for its owner and group alone")
        add("--backlog", type=arguments.count, default=BACKLOG, metavar="N", help=f"that wait, {BACKLOG} by default")
        add("--workers", type=arguments.count, default=1, metavar="N", help="processes that serve, 1 by default")
        add("--max-sockets", type=arguments.count, metavar="N", help="websockets of one worker; more get 503")
        add("--drain", type=arguments.seconds, metavar="SECONDS", help="over which a worker that ends closes them")
        add("--pid", type=Path, metavar="FILE", help="write the process id into a file, to send it signals")
        add("--certfile", type=Path, metavar="FILE", help="speak TLS with this certificate and its chain")
        add("--keyfile", type=Path, metavar="FILE", help="its key, if it is not in the same file")
        add("--ws-only", action="store_true", help="websockets alone: /healthz answers, other pages are 404")
        add("--noreload", action="store_true", help="with DEBUG: do not restart when the code changes")

    def handle(self, **options: Any) -> None:
        log_to_stderr()
        parent = find_parent()
        try:
            if parent:
                self.work(parent, options)
                return
            require_sense(options)
            # around the reloader, so that Redis and what it keeps outlive a reload
            with embedded.running(get_settings().url):
                if not is_reloading(options):
                    self.supervise(options)
                else:
                    with child_ends_first(settings_for(options).drain_seconds):
                        autoreload.run_with_reloader(self.serve, options)
        except (BrokerUnavailable, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error

    # Three ways to run

    def serve(self, options: dict[str, Any]) -> None:
        """Serve with the reloader: in a thread, anew for each reload."""
        from django_wsredis import loop

        autoreload.raise_last_exception()
        self.check_project()
        # the reloader ends the process with sys.exit() in the main thread, when this one is a daemon
        atexit.register((stack := ExitStack()).close)
        try:
            listener = stack.enter_context(listening(options))
            server = make_server(listener, options)
        except CommandError as error:
            # the reloader would take it for a mistake in the code and wait for a change for ever
            self.stderr.write(f"CommandError: {error}")
            os._exit(1)
        stack.callback(server.stop)
        autoreload.file_changed.connect(loop.expect_restart, weak=False)
        self.announce(listener, options)
        server.serve()

    def supervise(self, options: dict[str, Any]) -> None:
        """Keep workers that serve."""
        notifier = systemd.Notifier()
        with listening(options) as listener:
            status = Supervisor(
                listener, options["workers"], notifier=notifier, on_ready=lambda: self.announce(listener, options)
            ).run()
        if status:
            sys.exit(status)

    def work(self, parent: Parent, options: dict[str, Any]) -> None:
        """Serve, as one of the supervisor's workers."""
        with closing(parent):
            if parent.checks:
                self.check_project()
            make_server(parent.listener, options).serve(parent)

    # Their steps

    def check_project(self) -> None:
        """Run Django's checks, and say which migrations are missing. Raises CommandError."""
        self.check(display_num_errors=True)
        self.check_migrations()
        connections.close_all()

    def announce(self, listener: socket.socket, options: dict[str, Any]) -> None:
        """Say what runs, and where; the last line means that it is ready."""
        workers = options["workers"]
        on_socket = " on systemd's socket" if options["is_from_systemd"] else ""
        url = address_of(listener, is_tls=bool(options["certfile"]))
        self.stdout.write(
            f"django_wsredis {__version__}, Django {django_version()}, settings {django_settings.SETTINGS_MODULE}\n"
            f"Redis: {redis.shown_url(get_settings().url)}\n"
            f"Serving {'websockets' if options['ws_only'] else 'pages and websockets'} at {self.style.SUCCESS(url)}"
            f"{on_socket}{f' with {workers} workers' if workers > 1 else ''} (Ctrl-C stops it)"
        )
        self.stdout.flush()


def is_reloading(options: dict[str, Any]) -> bool:
    """Tell whether Django's reloader runs the server."""
    return bool(django_settings.DEBUG and not options["noreload"])


def require_sense(options: dict[str, Any]) -> None:
    """Raise CommandError for options that cannot work."""
    if not django_settings.DEBUG and not django_settings.ALLOWED_HOSTS:
        raise CommandError("You must set settings.ALLOWED_HOSTS if DEBUG is False.")
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
        raise CommandError(f"Cannot listen on {options['unix'] or options['addrport']}: {reason(error)}.") from error


def reason(error: OSError) -> str:
    """Return what an error is about, without the address."""
    return os.strerror(error.errno) if error.errno else str(error)


def make_server(listener: socket.socket, options: dict[str, Any]) -> Server:
    """Return what serves in this process. Raises CommandError for a certificate that is none."""
    # gevent: only in a process that serves
    from django_wsredis.hosts.tls import load_certificate
    from django_wsredis.server import Server, not_found_but_health

    certfile, keyfile = options["certfile"], options["keyfile"]
    try:
        tls = load_certificate(certfile, keyfile) if certfile else None
    except OSError as error:
        files = f"{certfile} and {keyfile}" if keyfile else f"{certfile}"
        raise CommandError(f"Cannot speak TLS with {files}: {error.strerror or error}.") from error
    application = WebSocketApplication(not_found_but_health if options["ws_only"] else pages())
    return Server(listener, application, settings_for(options), tls=tls, is_shared=options["workers"] > 1)


def pages() -> Any:
    """Return the project's own WSGI application, with static files if DEBUG is on."""
    application: Any = get_internal_wsgi_application()
    get_resolver().url_patterns  # noqa: B018  imports the views now: what is wrong with them ends a reload
    if django_settings.DEBUG and apps.is_installed("django.contrib.staticfiles"):
        application = StaticFilesHandler(application)
    return application


def log_to_stderr() -> None:
    """Show what we log, from INFO, unless the project says where that goes."""
    logger = logging.getLogger("django_wsredis")
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s [%(process)d] %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


@contextmanager
def child_ends_first(drain_seconds: float) -> Iterator[None]:
    """In the reloader's parent: on Ctrl-C, which its child gets too, wait until that has closed its sockets.

    Python's subprocess would kill it after a quarter of a second. A second Ctrl-C ends both at once.
    """
    from django_wsredis import loop

    def wait(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, drain_seconds + loop.STOP_SECONDS + 0.5)

    if os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) != "true":
        signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def parse_address(addrport: str) -> tuple[str, int]:
    """Return host and port of `port`, `host:port` or `[ipv6]:port`. Raises CommandError."""
    match = ADDRESS.match(addrport)
    if match is None or int(match["port"]) > 65535:
        raise CommandError(f"{addrport!r} is not a port or address:port, such as 8000, 0.0.0.0:8000 or [::1]:8000.")
    return (match["host"] or "127.0.0.1").strip("[]"), int(match["port"])
