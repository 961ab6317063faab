"""The tables: all alike, and as wide as the terminal up to a width that eyes can follow."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from .words import printable

MAX_WIDTH = 120


def table(width: int) -> Table:
    """Return a table without any column."""
    return Table(
        box=box.SIMPLE_HEAD,
        header_style="bold cyan",
        border_style="dim",
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
        width=min(width, MAX_WIDTH),
    )


def add_number(to: Table, header: str, *, is_sorted: bool = False) -> None:
    """Add a column of numbers; that by which the rows are sorted is underlined."""
    to.add_column(header, justify="right", no_wrap=True, header_style=_header_style(is_sorted))


def add_text(to: Table, header: str, *, ratio: int | None = None, is_sorted: bool = False) -> None:
    """Add a column of texts, which gives way to those of numbers: its cells are `cut()`."""
    to.add_column(header, ratio=ratio, header_style=_header_style(is_sorted))


def cut(text: str, style: str = "") -> Text:
    """Return a text that is cut where it is too long."""
    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")


def _header_style(is_sorted: bool) -> str:
    return "underline" if is_sorted else ""
