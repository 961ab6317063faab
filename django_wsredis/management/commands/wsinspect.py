"""`./manage.py wsinspect`: look at Redis, and at what channels keep."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console, RenderableType

from django_wsredis.commands import PAGE_MESSAGES
from django_wsredis.exceptions import BrokerUnavailable
from django_wsredis.inspection import inspect_all, inspect_channel
from django_wsredis.management import display
from django_wsredis.management.arguments import add_audiences, channel_words, count, position, read_channel
from django_wsredis.management.help import HelpFormatter

DEFAULT_LIMIT = 20

EXAMPLES = """examples:
  ./manage.py wsinspect                   Redis, and who keeps most messages
  ./manage.py wsinspect --facility chat   its newest messages for everybody
  ./manage.py wsinspect --facility inbox --user alice --limit 100
  ./manage.py wsinspect --facility chat --since 1700000000000-0
                                          what followed that message
  ./manage.py wsinspect --json | jq .channels

docs/inspect.rst lists the keys of --json. Exit status: 0, or 1 if Redis, or one
of its masters, cannot be reached. Session keys are never shown.
"""


class Command(BaseCommand):
    help = "Show what Redis is like, and what channels keep; with --facility one of them."
    requires_system_checks: list[str] = []  # to look costs no more than it must

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, formatter_class=HelpFormatter, epilog=EXAMPLES, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--facility", help="the URL's tail: show the messages of a channel there, oldest first")
        add("--broadcast", action="store_true", help="its channel for everybody, which is the default")
        add_audiences(parser, "its channel for a {} instead")
        add("--limit", type=count, default=DEFAULT_LIMIT, metavar="N", help=f"rows at most, {DEFAULT_LIMIT} by default")
        add("--since", type=position, metavar="ID", help="the messages after this one")
        add("--before", type=position, metavar="ID", help="the messages before this one")
        add("--json", action="store_true", help="print one JSON object")

    def handle(self, **options: Any) -> None:
        try:
            if options["facility"] is None:
                self.show_all(options)
            else:
                self.show_channel(options)
        except (BrokerUnavailable, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error

    def show_all(self, options: dict[str, Any]) -> None:
        """Print the overview. Raises CommandError, after it, for a server that does not answer."""
        for name in ("broadcast", "groups", "users", "sessions", "since", "before"):
            if options[name]:
                raise CommandError(f"--{name.removesuffix('s')} is about one channel: it needs --facility.")
        report = inspect_all(limit=options["limit"])
        self.show(report, display.overview(report), options)
        servers = report.redis.servers
        if away := [server.address for server in servers if server.problem]:
            raise CommandError(f"{len(away)} of {len(servers)} masters cannot be reached: {', '.join(away)}.")

    def show_channel(self, options: dict[str, Any]) -> None:
        """Print messages of one channel."""
        if options["since"] and options["before"]:
            raise CommandError("Either --since or --before.")
        if options["limit"] > PAGE_MESSAGES:
            raise CommandError(f"--limit is {options['limit']}; of messages {PAGE_MESSAGES} are shown at once.")
        given = {name: options[name] for name in ("since", "before", "limit")}
        report = inspect_channel(**read_channel(options), **given)
        words = ["./manage.py", "wsinspect", *channel_words(options)]
        if options["limit"] != DEFAULT_LIMIT:
            words += ["--limit", str(options["limit"])]
        self.show(report, display.page(report, shlex.join(words)), options)

    def show(self, report: Any, shown: RenderableType, options: dict[str, Any]) -> None:
        """Print a report; in colours on a terminal."""
        if options["json"]:
            self.stdout.write(json.dumps(asdict(report)))
            return
        console = Console(
            file=self.stdout,  # type: ignore[arg-type]
            force_terminal=options["force_color"] or None,
            no_color=options["no_color"] or None,
            highlight=False,
        )
        console.print(shown)
