"""`./manage.py runwsserver`: pages and websockets on one port."""

from __future__ import annotations

import atexit
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django import get_version as django_version
from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.servers.basehttp import get_internal_wsgi_application
from django.db import connections
from django.utils import autoreload

from django_wsredis import __version__, embedded, loop, redis
from django_wsredis.conf import get_settings
from django_wsredis.exceptions import BrokerUnavailable
from django_wsredis.management.help import HelpFormatter
from django_wsredis.server import Server, listen_tcp, listen_unix, not_found_but_health
from django_wsredis.wsgi import WebSocketApplication

ADDRESS = re.compile(r"^(?:(?P<host>\[[0-9a-fA-F:]+\]|[^:\[\]]+):)?(?P<port>\d{1,5})$")

EXAMPLES = """examples:
  ./manage.py runwsserver                      pages and websockets on http://127.0.0.1:8000/
  ./manage.py runwsserver 0.0.0.0:9000         on all addresses of this machine
  ./manage.py runwsserver '[::1]:8000'         on IPv6
  ./manage.py runwsserver --ws-only --unix /run/site/ws.sock
                                               websockets alone, for a proxy on the same machine
"""


class Command(BaseCommand):
    help = "Serve Django's pages and websockets from one gevent loop; with DEBUG also static files, with reloading."
    requires_system_checks: list[str] = []  # they run in the process that serves, at each reload

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, formatter_class=HelpFormatter, epilog=EXAMPLES, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "addrport", nargs="?", default="127.0.0.1:8000", help="[address:]port, 127.0.0.1:8000 by default"
        )
        parser.add_argument("--unix", type=Path, metavar="PATH", help="listen on a unix socket instead")
        parser.add_argument(
            "--ws-only", action="store_true", help="websockets alone: /healthz answers, other pages are 404"
        )
        parser.add_argument("--noreload", action="store_true", help="with DEBUG: do not restart when the code changes")

    def handle(self, **options: Any) -> None:
        if not django_settings.DEBUG and not django_settings.ALLOWED_HOSTS:
            raise CommandError("You must set settings.ALLOWED_HOSTS if DEBUG is False.")
        parse_address(options["addrport"])
        try:
            # around the reloader, so that Redis and what it keeps outlive a reload
            with embedded.running(get_settings().url):
                if django_settings.DEBUG and not options["noreload"]:
                    with child_ends_first():
                        autoreload.run_with_reloader(self.serve, **options)
                else:
                    self.serve(**options)
        except (BrokerUnavailable, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error

    def serve(self, **options: Any) -> None:
        """Check the project and serve it; with the reloader this runs anew in a thread for each reload."""
        autoreload.raise_last_exception()
        self.check(display_num_errors=True)
        self.check_migrations()
        connections.close_all()
        try:
            listener, url = listen(options)
        except OSError as error:
            where = options["unix"] or options["addrport"]
            reason = f"Cannot listen on {where}: {os.strerror(error.errno) if error.errno else error}."
            if threading.current_thread() is not threading.main_thread():
                # with the reloader, which would take it for a mistake in the code and wait for a change for ever
                self.stderr.write(f"CommandError: {reason}")
                os._exit(1)
            raise CommandError(reason) from error
        server = Server(listener, WebSocketApplication(not_found_but_health if options["ws_only"] else pages()))
        # the reloader ends the process with sys.exit() in the main thread, when this one is a daemon
        atexit.register(server.stop)
        autoreload.file_changed.connect(loop.expect_restart, weak=False)
        self.announce(url, options["ws_only"])
        server.serve()

    def announce(self, url: str, is_ws_only: bool) -> None:
        """Say what runs, and where; the last line means that it is ready."""
        self.stdout.write(
            f"django_wsredis {__version__}, Django {django_version()}, settings {django_settings.SETTINGS_MODULE}\n"
            f"Redis: {redis.shown_url(get_settings().url)}\n"
            f"Serving {'websockets' if is_ws_only else 'pages and websockets'} at {self.style.SUCCESS(url)}"
            " (Ctrl-C stops it)"
        )
        self.stdout.flush()


@contextmanager
def child_ends_first() -> Iterator[None]:
    """In the reloader's parent: on Ctrl-C, which its child gets too, wait until that has closed its sockets.

    Python's subprocess would kill it after a quarter of a second. A second Ctrl-C ends both at once.
    """

    def wait(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, loop.STOP_SECONDS + 0.5)

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


def listen(options: dict[str, Any]) -> tuple[socket.socket, str]:
    """Return the listening socket and the URL to print. Raises OSError."""
    if options["unix"]:
        return listen_unix(options["unix"]), f"unix:{options['unix']}"
    host, port = parse_address(options["addrport"])
    listener = listen_tcp(host, port)
    shown = f"[{host}]" if ":" in host else host
    return listener, f"http://{shown}:{listener.getsockname()[1]}/"


def pages() -> Any:
    """Return the project's own WSGI application, with static files if DEBUG is on."""
    application: Any = get_internal_wsgi_application()
    if django_settings.DEBUG and apps.is_installed("django.contrib.staticfiles"):
        application = StaticFilesHandler(application)
    return application
