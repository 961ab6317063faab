"""What all our commands have in common: the looks of --help; one line for a wrong option, or a disk that is full."""

from __future__ import annotations

import errno
import os
import sys
from argparse import RawDescriptionHelpFormatter
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Django's order of options, with the lines of the examples as they are written."""


class DocumentedCommand(BaseCommand):
    """A command whose --help ends in `examples`.

    cut_off_status: with what it ends if nobody reads its output to the end, as with `| head`; None: as with any error.
    """

    examples = ""
    cut_off_status: int | None = None

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run it, and say in one line that its output cannot be written."""
        try:
            try:
                return super().execute(*args, **options)
            finally:
                self.stdout.flush()  # what waits there
        except OSError as error:
            is_cut_off = isinstance(error, BrokenPipeError) and self.cut_off_status is not None
            is_full = error.errno in FULL and error.filename is None
            if options.get("stdout") or not (is_cut_off or is_full):
                raise
            # Python writes what waits once more when it ends, and would say that this failed, too
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not is_cut_off:
                raise CommandError(f"The output cannot be written: {error.strerror}.") from error
            if isinstance(error.__context__, (CommandError, SystemExit)):  # with which it was about to end
                raise error.__context__ from None
            sys.exit(self.cut_off_status)

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
