"""What draws on a terminal, or writes the same without colours."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console


class Screen(Console):
    """A console that leaves it to the command what it means that nobody reads any more; see `DocumentedCommand`."""

    def on_broken_pipe(self) -> None:
        raise


def make_console(options: dict[str, Any]) -> Console:
    """Return what draws: in colours on a terminal, unless Django's own options say otherwise."""
    return Screen(
        file=options.get("stdout") or sys.stdout,
        force_terminal=options["force_color"] or None,
        no_color=options["no_color"] or None,
        highlight=False,
    )
