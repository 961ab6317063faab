"""`wscheck --emit`: the configuration that is asked for, and how a file differs from it."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser

from django_wsredis.configurations import KINDS, File, Options, emit
from django_wsredis.configurations.addresses import Address, parse
from django_wsredis.configurations.project import read_project
from django_wsredis.management.arguments import count


def add_options(parser: CommandParser) -> None:
    """Add those that say what is printed."""
    group = parser.add_argument_group("print a configuration instead")
    add = group.add_argument
    add("--emit", choices=KINDS, metavar="KIND", help=f"what to print: {', '.join(KINDS)}")
    add("--output", type=Path, metavar="DIR", help="write files into this folder instead; none is replaced")
    add("--against", type=Path, metavar="FILE", help="show how this file differs from it; exit status 1 if it does")
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


def given_names(options: dict[str, Any]) -> list[str]:
    """Return the options of the command line that are for --emit."""
    names = [*Options.__dataclass_fields__, "output", "against"]
    return [f"--{name.replace('_', '-')}" for name in names if options[name] is not None]


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


def drift(files: list[File], path: Path) -> list[str]:
    """Return the lines of a unified diff from a file to what is printed: none if they are alike.

    Of several files it is the one of the same name. Raises CommandError.
    """
    emitted = next((file for file in files if Path(file.name).name == path.name or len(files) == 1), None)
    if emitted is None:
        raise CommandError(f"{path.name} is none of these: {', '.join(file.name for file in files)}.")
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"Cannot read {path}: {getattr(error, 'strerror', None) or 'it is no text'}.") from error
    here, there = text.splitlines(), emitted.text.splitlines()
    return list(difflib.unified_diff(here, there, str(path), "wscheck --emit", lineterm=""))
