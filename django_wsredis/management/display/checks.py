"""What wscheck found: a table for each area, then the problems with what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from django_wsredis.checks.areas import Area, titles_of
from django_wsredis.checks.findings import LEVELS, Problem
from django_wsredis.wording import of_them

from .tables import MAX_WIDTH, table
from .words import printable

NAME_WIDTH = 20  # of CSRF_TRUSTED_ORIGINS
STYLES = {"ok": "green", "info": "cyan", "warning": "yellow", "error": "bold red", "not checked": "dim"}


def area_lines(area: Area, width: int) -> list[RenderableType]:
    """Return what was looked at in one area."""
    shown = table(width)
    # of a column with a ratio rich heeds no min_width (`Table._calculate_column_widths`): it would cut longer names
    shown.add_column(area.name, width=_name_width(area, min(width, MAX_WIDTH)), overflow="fold")
    shown.add_column("", ratio=1, overflow="fold")
    shown.add_column("", width=max(map(len, STYLES)), no_wrap=True)
    for row in area.rows:
        style = "dim" if row.is_skipped else ""
        shown.add_row(
            Text(printable(row.checked), style=style),
            Text(printable(row.found), style=style),
            Text(row.verdict, style=STYLES[row.verdict]),
        )
    return [shown, Text()]


def _name_width(area: Area, width: int) -> int:
    """Return the width for the names of what was looked at: whole words, unless one is longer than half of a line."""
    words = (word for row in area.rows for word in printable(row.checked).split())
    return min(max(NAME_WIDTH, width // 4, *map(cell_len, words)), width // 2)


def problem_lines(problem: Problem) -> list[RenderableType]:
    """Return what is wrong, and what to do."""
    text = f"{problem.place}: {problem.text}" if problem.place else problem.text
    head = Text.assemble((problem.id, STYLES[problem.level]), " ", printable(text))
    hint = Text("\n".join(map(printable, problem.hint.splitlines())))
    return [head, Padding(hint, (0, 0, 0, 4)), Text()]


def summary(areas: Sequence[Area]) -> Text:
    """Return how many problems there are of each level, and what was not checked."""
    rows = [row for area in areas for row in area.rows]
    levels = Counter(problem.level for area in areas for problem in area.problems)
    texts = [
        Text(of_them(levels[level], level, "infos" if level == "info" else ""), style=STYLES[level])
        for level in LEVELS.values()
        if levels[level]
    ] or [Text("no problem", style=STYLES["ok"])]
    if unseen := sum(row.is_skipped for row in rows):
        texts.append(Text(f"{unseen} of {of_them(len(rows), 'row')} not checked"))
    if skipped := sum(area.skipped for area in areas):
        texts.append(Text(f"{of_them(skipped, 'problem')} skipped"))
    return Text("wscheck: ").append(Text(", ").join(texts)).append(".")


def listing(names: Iterable[str], width: int) -> Iterable[RenderableType]:
    """Return the ids of areas, with what they mean."""
    for name in names:
        shown = table(width)
        shown.add_column(name, no_wrap=True)
        shown.add_column("", ratio=1)
        for id, title in titles_of(name).items():
            shown.add_row(Text(id), Text(title))
        yield shown
        yield Text()
