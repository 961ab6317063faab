"""What `wscheck` may be asked to look at, and how it tells of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.management.base import CommandError, CommandParser

from django_wsredis.checks.areas import MODULES, TITLES
from django_wsredis.checks.situation import Situation
from django_wsredis.management.arguments import is_given, option, seconds

FAIL_LEVELS = ("warning", "error")
FILES = ("nginx", "uwsgi", "gunicorn", "apache", "haproxy")
FOLDERS = ("haproxy",)  # which reads all files in one
NAMES = (  # of options that say what is checked, and how it is told
    "list",
    "json",
    "only",
    "skip",
    "fail_level",
    *(f"{name}_conf" for name in FILES),
    "live",
    "user",
    "insecure",
    "idle",
)


def add_options(parser: CommandParser) -> None:
    """Add those that say what is checked."""
    add = parser.add_argument
    add("--only", metavar="AREA,…", help=f"look only at these: {', '.join(MODULES)}")
    add("--skip", action="append", default=[], metavar="ID", help="do not tell of this problem; may be repeated")
    add("--fail-level", choices=FAIL_LEVELS, help="exit status 1 from this level on (error)")
    add("--json", action="store_true", help="print one JSON object")
    add("--list", action="store_true", help="print all ids, with what they mean")
    for name in FILES:
        also = ", or a folder of *.cfg" if name in FOLDERS else ""
        add(f"--{name}-conf", type=Path, metavar="PATH", help=f"the configuration of {name}{also}")
    live = parser.add_argument_group("the whole way, through the real front door")
    live.add_argument("--live", metavar="URL", help="a websocket's URL: wss://example.com/ws/news")
    live.add_argument("--user", metavar="NAME", help="connect as this user, by a session of a few minutes")
    live.add_argument("--insecure", action="store_true", help="go on where the certificate is not valid")
    live.add_argument("--idle", type=seconds, metavar="S", help="also see that a silent socket lives so long")


def require_none(options: dict[str, Any], mode: str, *, but: tuple[str, ...] = ()) -> None:
    """Raise CommandError for options of a check where none is made."""
    if given := [option(name) for name in NAMES if name not in but and is_given(options[name])]:
        raise CommandError(f"{', '.join(given)}: not with {mode}, which checks nothing.")


def read_situation(options: dict[str, Any]) -> Situation:
    """Return what is to be looked at. Raises CommandError."""
    files = {f"{name}_conf": options[f"{name}_conf"] for name in FILES}
    for name in FILES:
        path = options[f"{name}_conf"]
        try:
            is_there = not path or path.is_file() or (name in FOLDERS and path.is_dir())
        except OSError as error:  # the folder may not be looked into
            raise CommandError(f"{path}: {error.strerror}.") from None
        if not is_there:
            raise CommandError(f"{path} is no file.")
    live = options["live"]
    if live is not None and not is_websocket(live):
        raise CommandError("--live is no websocket's URL, such as wss://example.com/ws/news.")  # it may hold a login
    if live is None and (options["user"] is not None or options["insecure"] or options["idle"] is not None):
        raise CommandError("--user, --insecure and --idle go with --live URL.")
    idle = options["idle"] or 0.0
    return Situation(**files, live=live or "", user=options["user"] or "", idle=idle, is_insecure=options["insecure"])


def is_websocket(url: str) -> bool:
    """Tell whether it is a websocket's URL."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def read_areas(options: dict[str, Any]) -> list[str]:
    """Return the areas to look at. Raises CommandError for one that is none, or what is given for others."""
    if options["only"] is None:
        return list(MODULES)
    names = [name.strip() for name in options["only"].split(",")]
    for name in names:
        if name not in MODULES:
            raise CommandError(f"{name!r} is no area; there are {', '.join(MODULES)}.")
    for name in FILES:
        if options[f"{name}_conf"] and name not in names:
            raise CommandError(f"--{name}-conf is for the area {name}, which --only leaves out.")
    if options["live"] and "live" not in names:
        raise CommandError("--live is for the area live, which --only leaves out.")
    return names


def read_skip(options: dict[str, Any]) -> set[str]:
    """Return the ids of problems that are not told of; "E201" stands for "wsredis.E201". Raises CommandError."""
    ids = {f"wsredis.{id.removeprefix('wsredis.').upper()}" for id in options["skip"]}
    for id in ids - TITLES.keys():
        raise CommandError(f"{id} is no problem's id; wscheck --list prints them.")
    return ids | set(django_settings.SILENCED_SYSTEM_CHECKS)
