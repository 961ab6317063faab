"""`./manage.py wscheck`: see before a deployment whether a socket can live; print configurations that work."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core.management.base import CommandError, CommandParser
from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner

from django_wsredis.checks.areas import Area, look, titles_of
from django_wsredis.checks.findings import RANKS, Row
from django_wsredis.configurations import File
from django_wsredis.management import check_options, emitting
from django_wsredis.management.display.checks import area_lines, listing, problem_lines, summary
from django_wsredis.management.help import DocumentedCommand
from django_wsredis.management.terminal import make_console

EXAMPLES = """examples:
  ./manage.py wscheck                      everything that can be seen from here
  ./manage.py wscheck --only redis,nginx --nginx-conf /etc/nginx/nginx.conf
  ./manage.py wscheck --live wss://example.com/ws/news --user alice
  ./manage.py wscheck --json --fail-level warning

  # uWSGI on a unix socket, and NGiNX in front of it: what we recommend
  ./manage.py wscheck --emit uwsgi > site.ini
  ./manage.py wscheck --emit nginx > site.conf
  ./manage.py wscheck --emit nginx --against /etc/nginx/sites-enabled/site.conf
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

Run it on the machine and with the settings of the site (--settings). It changes
nothing. Exit status: 0; 1 if there is an error. docs/checks.rst tells more of
each problem.
"""


class Command(DocumentedCommand):
    help = "See whether a websocket can live here; or print configurations of servers."
    examples = EXAMPLES
    cut_off_status = 1  # nobody has seen the result
    requires_system_checks: list[str] = []  # it says itself what is wrong with the settings

    def add_arguments(self, parser: CommandParser) -> None:
        check_options.add_options(parser)
        emitting.add_options(parser)

    def handle(self, *, emit: str | None, **options: Any) -> None:
        console = make_console(options)
        if emit is not None:
            check_options.require_none(options, f"--emit {emit}")
            self.emit(emit, options)
        elif given := emitting.given_names(options):
            raise CommandError(f"{', '.join(given)}: only with --emit KIND.")
        elif options["list"]:
            check_options.require_none(options, "--list", but=("list", "json", "only"))
            self.list_ids(check_options.read_areas(options), options["json"], console)
        else:
            self.look(options, console)

    def list_ids(self, names: list[str], as_json: bool, console: Console) -> None:
        """Print all ids, with what they mean."""
        if as_json:
            self.stdout.write(json.dumps({"areas": [{"name": name, "titles": titles_of(name)} for name in names]}))
        else:
            console.print(Group(*listing(names, console.width)))

    def look(self, options: dict[str, Any], console: Console) -> None:
        """Look at everything, and tell of it; end with exit status 1 if there are problems of the level that fails."""
        situation, names = check_options.read_situation(options), check_options.read_areas(options)
        console.quiet = options["json"]
        areas: list[Area] = []
        spinner = Spinner("dots", "Looking…")
        with Live(spinner, console=console, transient=True):  # it is shown on a terminal alone

            def show(area: str, row: Row) -> None:
                spinner.update(text=f"{area}: {row.checked} was {row.verdict}, …")

            for area in look(situation, names, check_options.read_skip(options), show):
                areas.append(area)
                console.print(Group(*area_lines(area, console.width)))
        problems = sorted((problem for area in areas for problem in area.problems), key=lambda problem: problem.rank)
        fails = any(problem.rank <= RANKS[options["fail_level"] or "error"] for problem in problems)
        unseen = [area.name for area in areas if not area.is_seen] if options["only"] else []
        console.print(Group(*(line for problem in problems for line in problem_lines(problem)), summary(areas)))
        if options["json"]:
            is_fine = not (fails or unseen)
            self.stdout.write(json.dumps({"is_fine": is_fine, "areas": [told(area) for area in areas]}))
        if unseen:
            raise CommandError(f"Nothing could be checked of {', '.join(unseen)}.")
        if fails:
            raise SystemExit(1)

    def emit(self, kind: str, options: dict[str, Any]) -> None:
        """Print a configuration, write it, or compare it with a file."""
        if options["output"] and options["against"]:
            raise CommandError("Either --output or --against.")
        files = emitting.make(kind, options)
        if django_settings.DEBUG:
            self.stderr.write("DEBUG is on: print it with the settings of the machine that it is for (--settings).")
        if options["against"]:
            self.compare(files, options["against"])
        elif options["output"] is None:
            self.stdout.write(emitting.join(files), ending="")
        else:
            emitting.write(files, options["output"])
            for name, _ in files:
                self.stdout.write(str(options["output"] / name))

    def compare(self, files: list[File], path: Path) -> None:
        """Print how a file differs from what is emitted; end with exit status 1 if it does."""
        lines = emitting.drift(files, path)
        for line in lines:
            self.stdout.write(line)
        if lines:
            raise SystemExit(1)
        self.stdout.write(f"{path} is what wscheck prints.")


def told(area: Area) -> dict[str, Any]:
    """Return what was found in one area, as docs/checks.rst documents it."""
    return {
        "name": area.name,
        "skipped": area.skipped,
        "rows": [
            {
                "checked": row.checked,
                "found": row.found,
                "verdict": row.verdict,
                "problems": [{"level": problem.level, **asdict(problem)} for problem in row.problems],
            }
            for row in area.rows
        ],
    }
