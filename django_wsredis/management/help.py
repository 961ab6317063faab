"""What all our commands have in common: the looks of --help, and one line for a wrong option."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter


class HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Django's order of options, with the lines of the examples as they are written."""


class DocumentedCommand(BaseCommand):
    """A command whose --help ends in `examples`."""

    examples = ""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return Django's parser, which says in one line what is wrong, with the exit status of other mistakes."""
        parser = super().create_parser(
            prog_name, subcommand, formatter_class=HelpFormatter, epilog=self.examples, **kwargs
        )

        def error(message: str) -> NoReturn:
            text = message.removeprefix("argument ")
            text = f"{text[0].upper()}{text[1:]}; see {subcommand} --help."
            if not parser.called_from_command_line:
                raise CommandError(text)
            parser.exit(1, f"CommandError: {text}\n")

        parser.error = error  # type: ignore[method-assign]
        return parser
