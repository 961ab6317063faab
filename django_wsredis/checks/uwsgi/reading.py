"""uWSGI's configuration as uWSGI reads it: an ini file, a yaml file, a command line. Pure but for those files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

# names of one option → the one that is used here; the letters are those of a command line
ALIASES = {
    "workers": "processes",
    "p": "processes",
    "plugin": "plugins",
    "need-plugin": "plugins",
    "need-plugins": "plugins",
    "plugin-dir": "plugins-dir",
    "wsgi": "module",
    "w": "module",
    "file": "wsgi-file",
    "s": "socket",
    "uwsgi-socket": "socket",
    "M": "master",
    "l": "listen",
    "b": "buffer-size",
    "t": "harakiri",
    "R": "max-requests",
    "T": "enable-threads",
    "y": "yaml",
    "yml": "yaml",
    "lazy": "lazy-apps",
}
INCLUDES = ("ini", "yaml", "include", "inherit")
PLACEHOLDERS = ("set", "set-ph", "set-placeholder")
LOGIC = re.compile(r"if-?(?:not-?)?(?:env|opt|exists|file|dir|reload|plugin|hostname|hostname-match)|for(?:-\w+)?")
ENDS = ("end", "endif", "end-if", "endfor", "end-for")
MAX_FILES = 50  # a file may include itself


class Option(NamedTuple):
    """A line of a configuration.

    value: "" if it has none. place: "file:line", "" on a command line. raw: the value before `%(name)` was replaced.
    """

    name: str
    value: str
    place: str
    raw: str = ""

    @property
    def is_on(self) -> bool:
        """Whether a switch is on: uWSGI takes every value for that but these."""
        return self.value.lower() not in ("false", "off", "no", "0")


class Configuration:
    """The options of one uWSGI, in their order. unread: (what, why) of what could not be read."""

    def __init__(self, options: Iterable[Option], unread: Iterable[tuple[str, str]]) -> None:
        self.options = list(_resolve(list(options)))
        self.unread = list(unread)

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


def read_file(path: Path) -> Configuration:
    """Read a file. Raises nothing: see `unread`."""
    reader = _Reader(Path.cwd())
    reader.read(str(path), path.suffix.lstrip("."))
    return Configuration(reader.options, reader.unread)


def read_command(arguments: Sequence[str], folder: Path) -> Configuration:
    """Read a command line, without the program's name, and the files that it names, relative to the folder."""
    reader = _Reader(folder)
    for name, value in _split_command(arguments):
        reader.add(name, value, "")
    return Configuration(reader.options, reader.unread)


def _split_command(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):  # a file
            yield ("yaml" if word.endswith((".yaml", ".yml")) else "ini"), word
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("--") and len(name) > 1:  # -p4
            name, value, equals = name[0], name[1:], "="
        takes_next = bool(rest) and not rest[0].startswith("-")
        if takes_next and not equals and (name in INCLUDES or not rest[0].endswith((".ini", ".yaml", ".yml"))):
            value = rest.pop(0)
        yield name, value


class _Reader:
    def __init__(self, folder: Path) -> None:
        self.options: list[Option] = []
        self.unread: list[tuple[str, str]] = []
        self._folder = folder  # relative to which files are named
        self._files: list[Path] = []  # that have been read
        self._logic = ""  # the place of an if or a for that has not ended

    def add(self, name: str, value: str, place: str) -> None:
        name = ALIASES.get(name, name)
        if name in ENDS:
            self._logic = ""
        elif self._logic:
            return
        elif LOGIC.fullmatch(name):
            self._logic = place
            self.unread.append((place, f"{name} = {value}: what follows depends on it, up to its end"))
        elif name in PLACEHOLDERS:
            key, _, value = value.partition("=")
            self.options.append(Option(key, value, place))
        elif name in INCLUDES:
            self.read(value, name)
        else:
            self.options.append(Option(name, value, place))

    def read(self, value: str, kind: str) -> None:
        """Read `path`, `path:section`, or `:section` of the file before."""
        name, _, section = value.partition(":")
        path = self._find(name) if name else self._files[-1] if self._files else Path()
        if path.suffix in (".yaml", ".yml") or (kind == "yaml" and not path.suffix):
            parse = parse_yaml
        elif path.suffix in (".xml", ".json", ".sqlite", ".sqlite3"):
            self.unread.append((str(path), f"{path.suffix} is not read here, only ini and yaml"))
            return
        else:
            parse = parse_ini
        if len(self._files) >= MAX_FILES:
            self.unread.append((str(path), "too many files"))
            return
        try:
            text = path.read_text().replace("\0", "")  # which ends a text of C
        except (OSError, UnicodeDecodeError) as error:
            self.unread.append((str(path), getattr(error, "strerror", None) or "it is no text"))
            return
        self._files.append(path)
        found = list(parse(_magic(text, path), section or "uwsgi"))
        if not found:
            self.unread.append((str(path), f"it has no section {section or 'uwsgi'!r} with options"))
        for line, name, value in found:
            self.add(name, value, f"{path}:{line}")

    def _find(self, name: str) -> Path:
        """Return a file: uWSGI looks in the folder in which it was started, which may not be known."""
        path = self._folder / name
        beside = self._files[-1].parent / name if self._files else path
        return beside if beside.is_file() and not path.is_file() else path


def parse_ini(text: str, section: str) -> Iterator[tuple[int, str, str]]:
    """Yield the number of a line, an option and its value, for each line of a section. Not as configparser does it."""
    current = ""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(" \t\r")
        if line.startswith("["):
            current = line[1:-1]
        elif line and line[0] not in ";#" and current == section:
            name, _, value = line.partition("=")
            yield number, name.rstrip(" \t\r"), value.lstrip(" \t\r")


def parse_yaml(text: str, section: str) -> Iterator[tuple[int, str, str]]:
    """Yield the same of a mapping of scalars, and of lists of them, which is all that uWSGI takes."""
    is_inside, name = False, ""
    for number, line in enumerate(text.split("\n"), 1):
        stripped = re.sub(r"(^|\s)#.*", "", line).strip()
        if not stripped:
            continue
        if not line[0].isspace() and not stripped.startswith("-"):
            is_inside = stripped == f"{section}:"
        elif is_inside and (match := re.fullmatch(r"-\s+(.*)", stripped)):
            yield number, name, _scalar(match[1])
        elif is_inside and (match := re.fullmatch(r"([\w-]+)\s*:(?:\s+(.*))?", stripped)):
            name, value = match[1], match[2] or ""
            for item in value[1:-1].split(",") if value.startswith("[") else [value] if value else []:
                yield number, name, _scalar(item)


def _scalar(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


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
