"""A frame of the live view: as high as the terminal, with the keys in its last line."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

Lines = list[RenderableType]


class Frame:
    """What stands above is shown whole; the rest has the lines that are left.

    head(width), body(width, height): their lines. problem: why they are old.
    """

    def __init__(
        self, head: Callable[[int], Lines], body: Callable[[int, int], Lines], footer: Text, problem: str = ""
    ) -> None:
        self._problem = Text(problem, style="bold red")
        self._style = "dim" if problem else ""
        self._head = head
        self._body = body
        self._footer = footer

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.height or console.height
        options = options.update(height=None)

        def render(parts: Lines) -> list[list[Segment]]:
            return console.render_lines(Group(*parts), options, style=console.get_style(self._style))

        lines = console.render_lines(self._problem, options) if self._problem else []
        lines += render(self._head(width))
        lines += render(self._body(width, height - 1 - len(lines)))
        lines = Segment.set_shape(lines[: height - 1], width, height - 1)
        lines += console.render_lines(self._footer, options)[:1]
        for line in lines:
            yield from line
            yield Segment.line()


def footer(keys: Mapping[str, str], sorted_by: str, time: str, width: int) -> Text:
    """Return the keys with what they do, each a letter of its word that stands out; and the time of what is shown."""
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append("q", style="bold reverse").append(" ends  sort:")
    for key, word in keys.items():
        place = word.index(key)
        style = "bold green" if word == sorted_by else ""
        line.append(" ").append(word[:place], style=style)
        line.append(key, style="bold reverse").append(word[place + 1 :], style=style)
    return line.append(time.rjust(width - line.cell_len), style="dim")
