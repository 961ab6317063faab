"""Pictures of terminals, for the documentation: what rich exports of what it prints."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console, RenderableType
from rich.terminal_theme import TerminalTheme

# Legible on the page's white as on the dark of the terminal; rich's own yellow and blue are not.
THEME = TerminalTheme(
    (22, 27, 34), (208, 215, 222),
    [(72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34), (88, 166, 255), (188, 140, 255), (57, 197, 207),
     (177, 186, 196)],
)  # fmt: skip


def draw_terminal(path: Path, command: str, shown: RenderableType, width: int, height: int) -> None:
    """Write a picture of a terminal in which a command was given."""
    console = Console(
        file=io.StringIO(), record=True, width=width, height=height, force_terminal=True, color_system="truecolor"
    )
    console.print(shown)
    svg = console.export_svg(title=command, theme=THEME, unique_id=path.stem)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # nothing is fetched from elsewhere
    path.write_text(re.sub(" +\n", "\n", svg))
