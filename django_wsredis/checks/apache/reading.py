"""Apache's configuration: its directives, with those of the files that it includes. Pure but for the files it reads.

Own, as no parser for Python is kept up: apacheconfig's last release is of January 2020.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

MAX_DEPTH = 20  # of files that include each other
MAX_FILES = 1000  # a file may include itself, twice
WORD = re.compile(r'"((?:\\.|[^"\\])*)"|\'((?:\\.|[^\'\\])*)\'|(\S+)')
CONDITIONAL = ("ifmodule", "ifdefine", "ifversion", "ifdirective", "iffile", "ifsection")
VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(slots=True)
class Directive:
    """A directive, or a section with others in it. name: in lower case. place: "file:line"."""

    name: str
    words: list[str]
    place: str
    inside: list[Directive] = field(default_factory=list)

    def all(self, *names: str) -> list[Directive]:
        """Return the directives directly in this section that have one of these names."""
        return [directive for directive in self.inside if directive.name in names]

    def get(self, name: str) -> Directive | None:
        """Return the last of a name: that is the one which counts."""
        return next(iter(self.all(name)[::-1]), None)

    @property
    def value(self) -> str:
        """The first word; "" if there is none."""
        return self.words[0] if self.words else ""


class DirectiveTree:
    """What is in a file. unread: (what, why) of what could not be read.

    modules: "proxy_module" and so on: those that are there without it, and those that it loads. loads: whether it does.
    """

    def __init__(self, root: Path, modules: Iterable[str] = ()) -> None:
        self.top = Directive("", [], str(root))
        self.unread: list[tuple[str, str]] = []
        self.modules = set(modules)
        self.loads = False
        self._root = root  # relative to which files are included
        self._count = 0  # of files read
        self._variables: dict[str, str] = {}

    def read(self, path: Path) -> None:
        """Add a file. Raises nothing: see `unread`."""
        self._read(path, [self.top], 0)

    def _read(self, path: Path, open_sections: list[Directive], depth: int) -> None:
        self._count += 1
        try:
            text = path.read_text(errors="replace")
        except OSError as error:
            self.unread.append((str(path), error.strerror or str(error)))
            return
        bottom = len(open_sections)
        for number, line in _lines(text):
            line = VARIABLE.sub(lambda match: self._variables.get(match[1], match[0]), line)
            if line.startswith("</"):
                if len(open_sections) > bottom:
                    open_sections.pop()
            elif line.startswith("<"):
                self._open(line, f"{path}:{number}", open_sections)
            else:
                name, *words = split(line)
                self._add(Directive(name.lower(), words, f"{path}:{number}"), open_sections, depth)

    def _open(self, line: str, place: str, open_sections: list[Directive]) -> None:
        """Begin a section. What an <If...> holds that applies belongs to the section around it."""
        name, *words = split(line.strip("<>")) or [""]
        section = Directive(name.lower(), words, place)
        if section.name in CONDITIONAL:
            applies = self._applies(section)
            open_sections.append(open_sections[-1] if applies else section)
        else:
            open_sections[-1].inside.append(section)
            open_sections.append(section)

    def _applies(self, section: Directive) -> bool:
        wanted = section.value.removeprefix("!")
        is_there = True
        if section.name == "ifmodule":
            is_there = module_name(wanted) in self.modules
        elif section.name == "ifdefine":
            is_there = wanted in self._variables
        return is_there != section.value.startswith("!")

    def _add(self, directive: Directive, open_sections: list[Directive], depth: int) -> None:
        if any(section.name in CONDITIONAL for section in open_sections):  # it does not apply
            return
        if directive.name in ("include", "includeoptional"):
            self._include(directive, open_sections, depth)
            return
        if directive.name == "serverroot":
            self._root = Path(directive.value)
        elif directive.name == "define" and directive.words:
            self._variables[directive.value] = directive.words[1] if len(directive.words) > 1 else ""
        elif directive.name == "loadmodule":
            self.loads = True
            self.modules.add(directive.value)
        open_sections[-1].inside.append(directive)

    def _include(self, directive: Directive, open_sections: list[Directive], depth: int) -> None:
        if depth == MAX_DEPTH:
            self._leave(f"{directive.place.rpartition(':')[0]}: files include each other {MAX_DEPTH} times")
            return
        pattern = str(self._root / directive.value)
        files = [Path(name) for name in sorted(glob.glob(pattern))]
        if not files and directive.name == "include":
            self.unread.append((directive.place, f"there is no {pattern}, or it may not be looked at"))
        for file in files:
            try:
                found = sorted(file.iterdir()) if os.path.isdir(file) else [file]
            except OSError as error:
                self.unread.append((str(file), error.strerror or str(error)))
                continue
            for each in found:
                if self._count >= MAX_FILES:
                    self._leave(f"more than {MAX_FILES} files: the others are not read")
                    return
                self._read(each, open_sections, depth + 1)

    def _leave(self, why: str) -> None:
        """Say, once, what is not read."""
        if ("included files", why) not in self.unread:
            self.unread.append(("included files", why))


def module_name(text: str) -> str:
    """Return a module's own name, be it given as that or as its file: proxy_module for mod_proxy.c."""
    match = re.fullmatch(r"mod_(\w+)\.c", text)
    return f"{match[1]}_module" if match else text


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line that says something, with its number; a backslash at the end joins it with the next one."""
    number, joined = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.endswith("\\"):
            joined += line[:-1]
            continue
        line, joined = (joined + line).strip(), ""
        if line and not line.startswith("#"):
            yield number, line
    if joined.strip():
        yield number, joined.strip()


def split(line: str) -> list[str]:
    """Return the words of a line; quotes keep spaces together."""
    return [
        re.sub(r'\\(["\'])', r"\1", match[1] if match[1] is not None else match[2]) if match[3] is None else match[3]
        for match in WORD.finditer(line)
    ]
