"""`./manage.py wsinspect`: look at Redis, at workers, sockets and channels, and close sockets."""

from __future__ import annotations

import io
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from rich.console import Group

from django_wsredis.channels import is_pattern
from django_wsredis.control import NOT_AUTHORIZED
from django_wsredis.exceptions import BrokerUnavailable
from django_wsredis.inspection import Inspector, inspect_channel
from django_wsredis.inspection.overview import shown_worker
from django_wsredis.inspection.reports import Overview
from django_wsredis.management import inspect_options as given
from django_wsredis.management.arguments import channel_words, read_channel
from django_wsredis.management.disconnecting import disconnect
from django_wsredis.management.display.messages import page
from django_wsredis.management.following import follow
from django_wsredis.management.help import DocumentedCommand
from django_wsredis.management.terminal import make_console
from django_wsredis.management.views import OverviewView, SocketsView, View
from django_wsredis.management.watch import watch, watch_as_json
from django_wsredis.wording import of_them

SILENT_STATUS = 2  # some workers did not answer

EXAMPLES = """examples:
  ./manage.py wsinspect               Redis, workers, and the busiest channels
  ./manage.py wsinspect --watch       the same, live
  ./manage.py wsinspect --sockets --user alice
  ./manage.py wsinspect --sockets --sort outbox --limit 5
                                      who does not keep up
  ./manage.py wsinspect --tail chat   messages as they are delivered
  ./manage.py wsinspect --tail 'group:*:chat/*' --json
  ./manage.py wsinspect --messages --facility inbox --user alice
                                      what her channel keeps
  ./manage.py wsinspect --disconnect --group staff --reason "see you at 5"
  ./manage.py wsinspect --json | jq '.workers[].sockets'

docs/inspect.rst lists the keys of --json. Exit status: 0; 1 if Redis, or one of
its masters, cannot be reached; 2 if some workers did not answer. Session keys
are never shown.
"""


class Command(DocumentedCommand):
    help = "Show who is connected, to what, and how workers and Redis do; close sockets."
    examples = EXAMPLES
    cut_off_status = 0  # who reads has seen enough
    requires_system_checks: list[str] = []  # to look costs no more than it must

    def add_arguments(self, parser: CommandParser) -> None:
        given.add_options(parser)

    def handle(self, **options: Any) -> None:
        mode = given.read_mode(options)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # where a terminal does not know all of Unicode
        try:
            match mode:
                case "messages":
                    self.show_messages(options)
                case "tail":
                    self.tail(options)
                case "disconnect":
                    self.disconnect(options)
                case _:
                    self.show(mode, options)
        except (BrokerUnavailable, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            if not (mode == "tail" or options["watch"]):  # which end so
                raise SystemExit(130) from None

    def show(self, mode: str, options: dict[str, Any]) -> None:
        """Show the overview or sockets, once or again and again."""
        view = self.view(mode, options)
        if options["watch"] and options["json"]:
            watch_as_json(view, options["watch"], self.write_line)
        elif options["watch"]:
            console = make_console(options)
            if not console.is_terminal or console.is_dumb_terminal:
                raise CommandError("--watch needs a terminal; --watch --json writes one object on each line.")
            watch(view, options["watch"], console)
        else:
            report = view.look()
            if options["json"]:
                self.stdout.write(json.dumps(view.told(report)))
            else:
                console = make_console(options)
                console.print(Group(*view.lines(report, console.width)))
            if view.is_empty(report):
                self.say_who_is_absent(options)
            if isinstance(report, Overview):
                require_all(report)
            require_answers(report.silent)

    def view(self, mode: str, options: dict[str, Any]) -> View:
        """Return what is to be shown."""
        which, words, order = given.read_filter(options), given.narrowed(options), given.read_order(mode, options)
        limit = options["limit"] or (given.FRAME_LIMIT if options["watch"] else given.DEFAULT_LIMIT)
        if mode == "sockets":
            return SocketsView(which, words, order, limit)
        inspector = Inspector(which, given.read_theirs(options), limit=limit)
        return OverviewView(inspector, words, order, limit)

    def show_messages(self, options: dict[str, Any]) -> None:
        """Show what one channel keeps."""
        limit = options["limit"] or given.DEFAULT_LIMIT
        around = {name: options[name] for name in ("since", "before")}
        report = inspect_channel(**read_channel(options), **around, limit=limit)
        facility = options["facility"]
        if report.kept is None and is_pattern(facility):
            command = shlex.join(["./manage.py", "wsinspect", "--facility", facility])
            self.stderr.write(f"{facility!r} is a name here, and no pattern; what fits that: {command}")
        if options["json"]:
            self.stdout.write(json.dumps(asdict(report)))
            return
        words = ["./manage.py", "wsinspect", "--messages", *channel_words(options)]
        if options["limit"]:
            words += ["--limit", str(options["limit"])]
        console = make_console(options)
        console.print(page(report, shlex.join(words), console.width))

    def say_who_is_absent(self, options: dict[str, Any]) -> None:
        """Say beside the answer who does not exist of those who are named: that is why nothing was found."""
        if absent := given.read_absent(options):
            self.stdout.flush()  # it comes first
            self.stderr.write(absent)

    def tail(self, options: dict[str, Any]) -> None:
        """Follow messages, until Ctrl-C."""
        console = make_console(options)
        follow(options["tail"], as_json=options["json"], console=console, stdout=self.stdout, stderr=self.stderr)

    def disconnect(self, options: dict[str, Any]) -> None:
        """Close sockets."""
        if not given.has_filter(options) and not options["everybody"]:
            raise CommandError("Say whose sockets, by filters such as --user; or --everybody, which is all.")
        if given.has_filter(options) and options["everybody"]:
            raise CommandError("Either --everybody or filters.")
        closed = disconnect(
            given.read_filter(options),
            code=NOT_AUTHORIZED if options["code"] is None else options["code"],
            reason=options["reason"] or "",
            is_sure=options["yes"],
            as_json=options["json"],
            say=self.stdout.write,
        )
        if not closed.sockets:
            self.say_who_is_absent(options)
        require_answers(closed.silent)

    def write_line(self, line: str) -> None:
        """Write a line that somebody waits for."""
        self.stdout.write(line)
        self.stdout.flush()


def require_all(report: Overview) -> None:
    """Raise CommandError for a server that does not answer, or workers that could not be asked."""
    servers = report.redis.servers
    if away := [server.address for server in servers if server.problem]:
        masters = of_them(len(servers), "master")
        raise CommandError(f"{len(away)} of {masters} cannot be reached: {', '.join(away)}.")
    if report.workers_problem:
        raise CommandError(f"The workers could not be asked: {report.workers_problem}", returncode=SILENT_STATUS)


def require_answers(silent: Sequence[str]) -> None:
    """Raise CommandError for workers that did not answer."""
    if silent:
        names = ", ".join(map(shown_worker, silent))
        raise CommandError(f"{of_them(len(silent), 'worker')} did not answer: {names}.", returncode=SILENT_STATUS)
