"""`./manage.py wscheck`: print configurations that are known to work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser

from django_wsredis.configurations import KINDS, File, Options, emit
from django_wsredis.configurations.addresses import Address, parse
from django_wsredis.configurations.project import read_project
from django_wsredis.management.arguments import count
from django_wsredis.management.help import DocumentedCommand

EXAMPLES = """examples:
  # uWSGI on a unix socket, and NGiNX in front of it: what we recommend
  ./manage.py wscheck --emit uwsgi > site.ini
  ./manage.py wscheck --emit nginx > site.conf
  # uWSGI alone
  ./manage.py wscheck --emit uwsgi --listen :80 --router --workers 1
  # gunicorn, or runwsserver under systemd; and NGiNX in front of it
  ./manage.py wscheck --emit gunicorn --listen /run/site.sock
  ./manage.py wscheck --emit systemd --output /etc/systemd/system
  ./manage.py wscheck --emit nginx --upstream /run/site.sock
  # one uWSGI for pages, one for websockets
  ./manage.py wscheck --emit nginx --upstream uwsgi://3031 --ws-upstream 8001
  ./manage.py wscheck --emit haproxy --upstream 8001 --upstream 8002
  ./manage.py wscheck --emit uwsgi-emperor --output /etc/site

Print it with the settings of the machine that it is for (--settings), as it is
made from them.
"""


class Command(DocumentedCommand):
    help = "Print a configuration of a server, made from the project's settings."
    examples = EXAMPLES
    requires_system_checks: list[str] = []  # what it prints must not depend on a database that answers

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--emit", choices=KINDS, metavar="KIND", help=f"what to print: {', '.join(KINDS)}")
        add("--output", type=Path, metavar="DIR", help="write files into this folder instead; none is replaced")
        add("--listen", metavar="ADDRESS", help="where it listens: port, address:port, path; or uwsgi:// before one")
        add("--upstream", action="append", metavar="ADDRESS", help="of a proxy: where the site is; may be repeated")
        add("--ws-upstream", action="append", metavar="ADDRESS", help="where its websockets are, if elsewhere")
        add("--workers", type=count, metavar="N", help="processes that serve, 2 by default")
        add(
            "--threads",
            type=count,
            metavar="N",
            help="in each worker: of uwsgi, instead of gevent; of gunicorn, 8 by default",
        )
        add("--router", action="store_true", default=None, help="uwsgi: its http router, where no proxy is in front")
        add("--sockets", type=count, metavar="N", help="apache, systemd: so many websockets at once")
        add("--timeout", type=count, metavar="S", help="seconds that a proxy waits for a silent site")
        add("--certfile", metavar="PATH", help="speak TLS with this certificate")
        add("--keyfile", metavar="PATH", help="its key, if it is not in the same file")
        add("--module", metavar="MODULE:NAME", help="the WSGI application, if it is not WSGI_APPLICATION")

    def handle(self, *, emit: str | None, output: Path | None, **options: Any) -> None:
        if emit is None:
            kinds = "|".join(KINDS)
            raise CommandError(
                f"wscheck checks nothing yet, it prints configurations: ./manage.py wscheck --emit {kinds}"
            )
        files = make(emit, options)
        if django_settings.DEBUG:
            self.stderr.write("DEBUG is on: print it with the settings of the machine that it is for (--settings).")
        if output is None:
            self.stdout.write(join(files), ending="")
        else:
            write(files, output)
            for name, _ in files:
                self.stdout.write(str(output / name))


def make(kind: str, options: dict[str, Any]) -> list[File]:
    """Return the files for the options of the command line. Raises CommandError."""
    try:
        given = {name: options[name] for name in Options.__dataclass_fields__}
        given["listen"] = given["listen"] and parse(given["listen"])
        for name in ("certfile", "keyfile"):
            given[name] = given[name] and os.path.abspath(given[name])
        for name in ("upstream", "ws_upstream"):
            given[name] = given[name] and tuple(map(parse_upstream, given[name]))
        return emit(kind, read_project(given["module"]), Options(**given))
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from error
    except ValueError as error:
        raise CommandError(f"{error}.") from error


def parse_upstream(text: str) -> Address:
    """Return the address to connect to: a port alone is this machine's. Raises ValueError."""
    address = parse(text)
    return address if address.path or address.host else address._replace(host="127.0.0.1")


def join(files: list[File]) -> str:
    """Return all files as one text; of several, each begins with a line that names it."""
    if len(files) == 1:
        return files[0].text
    return "\n".join(f"# ===== {name} =====\n{text}" for name, text in files)


def write(files: list[File], folder: Path) -> None:
    """Write files into a folder. Raises CommandError, before the first one, for one that is there."""
    try:
        for name, _ in files:
            if (folder / name).exists():
                raise CommandError(f"{folder / name} is there already; remove it first.")
        for name, text in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    except OSError as error:
        raise CommandError(f"Cannot write {error.filename}: {error.strerror}.") from error
