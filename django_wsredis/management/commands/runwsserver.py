"""`./manage.py runwsserver`: pages and websockets on one port."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from django import get_version as django_version
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.db import connections
from django.utils import autoreload

from django_wsredis import __version__, embedded, redis_errors, systemd
from django_wsredis.conf import get_settings
from django_wsredis.exceptions import BrokerUnavailable
from django_wsredis.listening import BACKLOG, address_of
from django_wsredis.log import log_to_stderr
from django_wsredis.management import arguments
from django_wsredis.management.help import DocumentedCommand
from django_wsredis.management.serving import (
    DEFAULT_ADDRESS,
    is_reloading,
    listening,
    make_server,
    require_sense,
    settings_for,
)
from django_wsredis.supervisor import Supervisor
from django_wsredis.worker import Parent, find_parent

CHILD_EXIT_SECONDS = 3.0  # after its last closing handshakes: for Python's own end, on a busy machine

EXAMPLES = """examples:
  ./manage.py runwsserver                 on http://127.0.0.1:8000/
  ./manage.py runwsserver 0.0.0.0:9000    on all addresses of this machine
  ./manage.py runwsserver '[::1]:8000'    on IPv6
  # in production, for a proxy on the same machine
  ./manage.py runwsserver --workers 4 --unix /run/site/web.sock --umask 007 \\
      --pid /run/site/web.pid
  # load new code, worker by worker; -TERM stops
  kill -HUP $(cat /run/site/web.pid)
  # https and wss without a proxy
  ./manage.py runwsserver 0.0.0.0:443 --certfile cert.pem --keyfile key.pem
  # websockets alone
  ./manage.py runwsserver --ws-only --unix /run/site/ws.sock

Without DEBUG, or with --noreload, a parent process keeps the workers. Under
systemd it takes the socket of a .socket unit, and tells when it is ready and
reloaded (Type=notify-reload): ./manage.py wscheck --emit systemd
"""


class Command(DocumentedCommand):
    help = "Serve pages and websockets from one gevent loop; with DEBUG also static files."
    examples = EXAMPLES
    requires_system_checks: list[str] = []  # they run in the process that serves, at each reload

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("addrport", nargs="?", help=f"[address:]port, {DEFAULT_ADDRESS} by default")
        add("--unix", type=Path, metavar="PATH", help="listen on a unix socket instead")
        add("--umask", type=arguments.octal, metavar="OCTAL", help="of that socket: 007 for its owner and group alone")
        add("--backlog", type=arguments.count, default=BACKLOG, metavar="N", help=f"that wait, {BACKLOG} by default")
        add("--workers", type=arguments.count, default=1, metavar="N", help="processes that serve, 1 by default")
        add("--max-sockets", type=arguments.count, metavar="N", help="websockets of one worker; more get 503")
        add("--drain", type=arguments.seconds, metavar="SECONDS", help="over which a worker that ends closes them")
        add("--pid", type=Path, metavar="FILE", help="write the process id into a file, to send it signals")
        add("--certfile", type=Path, metavar="FILE", help="speak TLS with this certificate and its chain")
        add("--keyfile", type=Path, metavar="FILE", help="its key, if it is not in the same file")
        add("--ws-only", action="store_true", help="websockets alone: pages are 404")
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
            make_server(parent.listener, options, master=os.getppid()).serve(parent)

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
            f"Redis: {redis_errors.shown_url(get_settings().url)}\n"
            f"Serving {'websockets' if options['ws_only'] else 'pages and websockets'} at {self.style.SUCCESS(url)}"
            f"{on_socket}{f' with {workers} workers' if workers > 1 else ''} (Ctrl-C stops it)"
        )
        self.stdout.flush()


@contextmanager
def child_ends_first(drain_seconds: float) -> Iterator[None]:
    """In the reloader's parent: on Ctrl-C, which its child gets too, wait until that has closed its sockets.

    Python's subprocess would kill it after a quarter of a second. A second Ctrl-C ends both at once.
    """
    from django_wsredis import loop

    def wait(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, drain_seconds + loop.STOP_SECONDS + CHILD_EXIT_SECONDS)

    if os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) != "true":
        signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
