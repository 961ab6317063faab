"""uWSGI's configuration as uWSGI reads it: files, and a command line. Pure but for the files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ...wording import of_them
from . import logic
from .aliases import ALIASES, LETTERS
from .formats import FORMATS, USUAL_SECTION, parse_ini

INCLUDES = ("ini", "yaml", "xml", "json", "include", "inherit")
PLACEHOLDERS = ("set-ph", "set-placeholder")
SETTERS = ("set", *PLACEHOLDERS)
NOT_READ = ("sqlite", "sqlite3")
MAX_FILES = 50  # a file may include itself


class Option(NamedTuple):
    """A line of a configuration.

    value: "" if it has none. place: "file:line", "" on a command line. raw: the value before `%(name)` was replaced.
    is_placeholder: whether it says itself that it is none of uWSGI's, but for `%(name)`.
    """

    name: str
    value: str
    place: str
    raw: str = ""
    is_placeholder: bool = False

    @property
    def is_on(self) -> bool:
        """Whether a switch is on: uWSGI takes every value for that but these."""
        return self.value.lower() not in ("false", "off", "no", "0")


class OptionList:
    """The options of one uWSGI, in their order.

    unread: (what, why) of what could not be read. decided: the same of conditions, and what was found.
    """

    def __init__(
        self,
        options: Iterable[Option],
        unread: Iterable[tuple[str, str]] = (),
        decided: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.options = list(_resolve(list(options)))
        self.unread = list(unread)
        self.decided = list(decided)

    def all(self, *names: str) -> list[Option]:
        """Return the options of these names."""
        return [option for option in self.options if option.name in names]

    def get(self, *names: str) -> Option | None:
        """Return the last option of these names: that is the one which counts."""
        return next(iter(self.all(*names)[::-1]), None)

    def is_on(self, name: str) -> bool:
        """Tell whether a switch is on."""
        option = self.get(name)
        return option is not None and option.is_on

    def number(self, name: str, default: int) -> int:
        """Return an option's number, as C reads it: what is none is 0."""
        option = self.get(name)
        if option is None:
            return default
        match = re.match(r"\s*[+-]?\d+", option.value)
        return int(match[0]) if match else 0


def read_file(path: Path) -> OptionList:
    """Read a file. Raises nothing: see `unread`."""
    reader = _Reader(None)
    reader.read(str(path), path.suffix.lstrip("."))
    return OptionList(reader.options, reader.unread, reader.decided)


def read_command(arguments: Sequence[str], folder: Path) -> OptionList:
    """Read a command line, without the program's name, and the files that it names, relative to the folder."""
    reader = _Reader(folder)
    for name, value in _split_command(arguments):
        reader.add(name, value, "")
    return OptionList(reader.options, reader.unread, reader.decided)


def _split_command(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):  # a file
            yield _kind(word), word
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("--") and len(name) > 1:  # -p4
            name, value, equals = name[0], name[1:], "="
        takes_next = bool(rest) and not rest[0].startswith("-")
        if takes_next and not equals and (name in INCLUDES or Path(rest[0]).suffix.lstrip(".") not in FORMATS):
            value = rest.pop(0)
        yield name, value


def _kind(name: str) -> str:
    """Return of which kind a file is, by its name."""
    suffix = Path(name.partition(":")[0]).suffix.lstrip(".")
    return ALIASES.get(suffix, suffix) if suffix in FORMATS else "ini"


class _Reader:
    """folder: where uWSGI was started, relative to which files are named; None if that is not known."""

    def __init__(self, folder: Path | None) -> None:
        self.options: list[Option] = []
        self.unread: list[tuple[str, str]] = []
        self.decided: list[tuple[str, str]] = []
        self._folder = folder
        self._files: list[Path] = []  # that have been read
        self._block: logic.Block | None = None  # that has not ended

    def add(self, name: str, value: str, place: str) -> None:
        if not place:
            name = LETTERS.get(name, name)
        name = ALIASES.get(name, name)
        if name in logic.ENDS:
            self._block = None
        elif self._block is None:
            self._take(name, value, place)
        else:
            for each in self._block.values(value, self._first_values()) or ():
                self._take(name, each, place)

    def _take(self, name: str, value: str, place: str) -> None:
        if logic.begins(name) and self._block is not None:
            self.unread.append((place, f"{name} in another block: uWSGI does not start"))
        elif logic.begins(name):
            self._begin(logic.Block(name, value, self._folder), place)
        elif name in SETTERS:
            key, _, value = value.partition("=")
            self.options.append(Option(key, value, place, is_placeholder=name in PLACEHOLDERS))
        elif name in INCLUDES:
            self.read(value, name)
        else:
            self.options.append(Option(name, value, place))

    def _begin(self, block: logic.Block, place: str) -> None:
        self._block = block
        place = place or "its command line"
        values = block.values("", self._first_values())
        if values is None:
            self.unread.append((place, f"{block.text}: what follows depends on it, up to its end"))
        else:
            rounds = (
                of_them(len(values), "time") if block.name in logic.LOOPS else "true here" if values else "false here"
            )
            self.decided.append((place, f"{block.text}: {rounds}"))

    def _first_values(self) -> dict[str, str]:
        return {option.name: option.value for option in reversed(self.options)}

    def read(self, value: str, kind: str) -> None:
        """Read `path`, `path:section`, or `:section` of the file before."""
        name, _, section = value.partition(":")
        path = self._find(name) if name else self._files[-1] if self._files else Path()
        suffix = path.suffix.lstrip(".")
        if suffix in NOT_READ:
            self.unread.append((str(path), f".{suffix} is not read here, only {', '.join(FORMATS)}"))
            return
        if len(self._files) >= MAX_FILES:
            self.unread.append((str(path), "too many files"))
            return
        try:
            text = path.read_text().replace("\0", "")  # which ends a text of C
        except (OSError, UnicodeDecodeError) as error:
            self.unread.append((str(path), getattr(error, "strerror", None) or "it is no text"))
            return
        self._files.append(path)
        parse = FORMATS.get(kind) or FORMATS.get(suffix) or parse_ini
        try:
            found = list(parse(_magic(text, path), section or USUAL_SECTION))
        except ValueError as error:
            self.unread.append((str(path), f"it cannot be read: {error}"))
            return
        if not found:
            self.unread.append((str(path), f"it has no section {section or USUAL_SECTION!r} with options"))
        for line, name, value in found:
            self.add(name, value, f"{path}:{line}")

    def _find(self, name: str) -> Path:
        """Return a file: uWSGI looks in the folder in which it was started, which may not be known."""
        path = (self._folder or Path.cwd()) / name
        beside = self._files[-1].parent / name if self._files else path
        return beside if beside.is_file() and not path.is_file() else path


def _magic(text: str, path: Path) -> str:
    """Replace `%d` and others of its kind, which stand for the file's own name, and `$(NAME)` of the environment."""
    whole = Path(os.path.abspath(path))
    values = {
        "d": f"{whole.parent}/".replace("//", "/"),
        "p": str(whole),
        "s": whole.name,
        "n": whole.stem,
        "e": whole.suffix.lstrip("."),
        "c": whole.parent.name,
        "%": "%",
    }
    text = re.sub("%([dpsnec%])", lambda match: values[match[1]], text)
    return re.sub(r"\$\((\w+)\)", lambda match: os.environ.get(match[1], match[0]), text)


def _resolve(options: list[Option]) -> Iterator[Option]:
    """Replace `%(name)`, which stands for the first option of that name."""
    values: dict[str, str] = {}
    for option in options:
        value = re.sub(r"%\(([\w.-]+)\)", lambda match: values.get(match[1], match[0]), option.value)
        values.setdefault(option.name, value)
        yield option._replace(value=value, raw=option.value)
