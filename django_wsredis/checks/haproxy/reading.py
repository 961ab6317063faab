"""HAProxy's configuration: its sections, and the lines in each. Pure but for the file it reads.

Own, as no parser for Python is kept up: pyhaproxy's last release is of December 2019.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECTIONS = {
    "global", "defaults", "frontend", "backend", "listen", "userlist", "peers", "resolvers", "mailers", "cache",
    "http-errors", "ring", "program", "fcgi-app", "log-forward", "log-profile", "crt-store", "traces", "acme",
}  # fmt: skip
SECONDS = {"us": 1e-6, "ms": 1e-3, "": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
WORD = re.compile(r"""(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^\s'"\\])+""")
PART = re.compile(r"""\\(.)|'([^']*)'|"((?:\\.|[^"\\])*)"|([^\\'"]+)""")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a section. place: "file:line". For people: wording.text_of()."""

    words: list[str]
    place: str


@dataclass(slots=True)
class Section:
    """A section. defaults: those that hold for it, if there are any."""

    kind: str
    name: str
    place: str
    defaults: Section | None = None
    lines: list[Line] = field(default_factory=list)

    def all(self, *words: str) -> list[Line]:
        """Return its own lines that begin with some words."""
        return [line for line in self.lines if tuple(line.words[: len(words)]) == words]

    def get(self, *words: str) -> Line | None:
        """Return the last line that begins with some words, its own or that of its defaults."""
        if own := self.all(*words):
            return own[-1]
        return self.defaults.get(*words) if self.defaults else None

    def seconds(self, name: str) -> float | None:
        """Return a timeout, None for none."""
        line = self.get("timeout", name)
        match = re.fullmatch(r"(\d+)(us|ms|s|m|h|d)?", line.words[2]) if line and len(line.words) > 2 else None
        return int(match[1]) * SECONDS[match[2] or ""] if match else None

    @property
    def mode(self) -> str:
        """`http` or `tcp`."""
        line = self.get("mode")
        return line.words[1] if line and len(line.words) > 1 else "tcp"


def files_given(arguments: Sequence[str], folder: Path) -> list[Path]:
    """Return the files, and the folders of files, that a command line names. folder: where it was started."""
    names: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            names += rest
            break
        if word == "-C" and rest:
            folder = folder / rest.pop(0)
        elif word == "-f" and rest:
            names.append(rest.pop(0))
    return [folder / name for name in names]


def files_of(path: Path) -> list[Path]:
    """Return a file itself; of a folder what HAProxy reads of it, in its order. Raises OSError."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.is_file() and file.match("[!.]*.cfg"))


def read(*paths: Path) -> list[Section]:
    """Return the sections of files, which share what is in their "defaults". Raises OSError."""
    sections: list[Section] = []
    defaults: dict[str, Section] = {}  # by name; "" is the one before
    for path in paths:
        is_inside = False  # a section does not go on in the next file
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            words = split(line)
            place = f"{path}:{number}"
            if not words or words[0].startswith("."):  # .if and its like: what is between is looked at as if it held
                continue
            if words[0] in SECTIONS:
                sections.append(_section(words, place, defaults))
                is_inside = True
            elif is_inside:
                sections[-1].lines.append(Line(words, place))
    return sections


def _section(words: list[str], place: str, defaults: dict[str, Section]) -> Section:
    """Begin a section."""
    kind, name = words[0], words[1] if len(words) > 1 and words[1] != "from" else ""
    base = defaults.get(words[-1] if "from" in words[:-1] else "")
    section = Section(kind, name, place, base if kind in ("frontend", "backend", "listen") else None)
    if kind == "defaults":
        section.defaults = base if "from" in words[:-1] else None
        defaults[""] = defaults[name] = section
    return section


def split(line: str) -> list[str]:
    """Return the words of a line, without its comment; quotes and backslashes keep spaces together."""
    words = []
    for match in WORD.finditer(line):
        if match[0].startswith("#"):
            break
        words.append("".join(_parts(match[0])))
    return words


def _parts(word: str) -> Iterator[str]:
    for escaped, strong, weak, plain in PART.findall(word):
        yield escaped or strong or re.sub(r"\\(.)", r"\1", weak) or plain
