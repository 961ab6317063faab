"""The configuration as a tree of directives, each with its file and line; from files, or from what `nginx -T` prints.

crossplane parses each file; includes are followed here, since NGiNX looks for them beside its main file, and a site's
file is none. Knows nothing of what the directives mean.
"""

from __future__ import annotations

import glob
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

import crossplane
from crossplane.analyzer import DIRECTIVES, analyze
from crossplane.errors import NgxParserDirectiveArgumentsError

DUMPED = re.compile(r"^# configuration file (\S.*):$", re.M)  # NGiNX's words, before each file
BROKEN = ("is not terminated by", "has no opening", "unexpected")  # of crossplane's words; others may be its age


@dataclass(frozen=True, slots=True, eq=False)
class Directive:
    """One directive; `block` is what its braces hold, None where there are none."""

    name: str
    args: tuple[str, ...]
    file: str
    line: int
    block: tuple[Directive, ...] | None = None

    @property
    def place(self) -> str:
        """File and line, "" for what nobody wrote."""
        return f"{self.file}:{self.line}" if self.line else ""

    @property
    def text(self) -> str:
        """The directive as it is written, without its block."""
        return " ".join(
            (self.name, *(arg if arg and not re.search(r"[\s;{}]", arg) else f'"{arg}"' for arg in self.args))
        )

    def all(self, *names: str) -> list[Directive]:
        """Return those of some names that stand directly in the block."""
        return [directive for directive in self.block or () if directive.name in names]

    def walk(self) -> Iterator[Directive]:
        """Yield all in the block, and in the blocks inside, in their order."""
        for directive in self.block or ():
            yield directive
            yield from directive.walk()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What cannot be read. is_denied: for lack of rights alone."""

    place: str
    text: str
    is_denied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All that was read.

    is_whole: whether `main` is NGiNX's main file, and not a site's, which is inside `http {}`. is_copy: whether it is
    from a file with what `nginx -T` printed, maybe on another machine.
    """

    path: str
    main: Directive
    is_whole: bool
    files: int
    faults: list[Fault]
    is_copy: bool = False

    @property
    def http(self) -> Directive:
        """The block for websites: a site's file is in it."""
        return next(iter(self.main.all("http")), self.main) if self.is_whole else self.main


class Source(Protocol):
    """Where the texts come from."""

    def text(self, path: str) -> str:
        """Return a file's text. Raises OSError."""

    def matching(self, pattern: str) -> list[str]:
        """Return the files that an `include` means, in NGiNX's order."""


class Disk:
    """The files themselves."""

    def text(self, path: str) -> str:
        return Path(path).read_text(encoding="utf-8", errors="replace")

    def matching(self, pattern: str) -> list[str]:
        return sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]


class Dump(dict[str, str]):
    """What `nginx -T` prints: all files, one after the other."""

    def __init__(self, text: str) -> None:
        _, *parts = DUMPED.split(text)
        super().__init__(zip(parts[::2], (part.removeprefix("\n") for part in parts[1::2]), strict=True))

    def text(self, path: str) -> str:
        if path not in self:
            raise FileNotFoundError(2, "it is not in what nginx -T printed", path)
        return self[path]

    def matching(self, pattern: str) -> list[str]:
        return sorted(path for path in self if fnmatchcase(path, pattern)) if glob.has_magic(pattern) else [pattern]


def read_file(path: Path, folder: str) -> Configuration:
    """Read a main file, a site's file, or a file that holds what `nginx -T` printed.

    folder: where the includes of a site's file are looked for, /etc/nginx.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""  # the reader tells of it
    if DUMPED.search(text):
        return replace(read_dump(text), is_copy=True)
    is_whole = re.search(r"^\s*(?:http|events)\s*\{", text, re.M) is not None
    reader = _Reader(Disk(), os.path.dirname(os.path.abspath(path)) if is_whole else folder)
    return reader.read(str(path), () if is_whole else ("http",))


def read_dump(text: str) -> Configuration:
    """Read what `nginx -T` printed."""
    source = Dump(text)
    main = next(iter(source), "")
    return _Reader(source, os.path.dirname(main)).read(main, ())


@dataclass(slots=True)
class _Reader:
    source: Source
    folder: str
    files: set[str] = field(default_factory=set)
    open: list[str] = field(default_factory=list)  # each is included by the one before it
    faults: list[Fault] = field(default_factory=list)

    def read(self, path: str, context: tuple[str, ...]) -> Configuration:
        block = tuple(self.include(path, "", context))
        return Configuration(
            path=path,
            main=Directive("http" if context else "main", (), path, 0, block),
            is_whole=not context,
            files=len(self.files),
            faults=self.faults,
        )

    def include(self, path: str, place: str, context: tuple[str, ...]) -> Iterator[Directive]:
        if path in self.open:
            self.faults.append(Fault(place=place, text=f"{path} is included by itself."))
            return
        try:
            text = self.source.text(path)
        except OSError as error:
            denied = isinstance(error, PermissionError)
            text = f"{path} cannot be read: {error.strerror}."
            self.faults.append(Fault(place=place or path, text=text, is_denied=denied))
            return
        self.files.add(path)
        self.open.append(path)
        yield from self.directives(self.parse(path, text, context), path, context)
        self.open.pop()

    def parse(self, path: str, text: str, context: tuple[str, ...]) -> list[dict[str, Any]]:
        """Return a file's statements, as crossplane has them."""
        strict, errors = _parse(text, context, check_args=True)
        found = [error for error in errors if not error["line"] or any(words in error["error"] for words in BROKEN)]
        for error in found[:1]:  # what follows the first is its consequence
            what = error["error"] or "it cannot be parsed"
            line = min(error["line"] or 1, len(text.splitlines()))  # there may be one of ours behind
            self.faults.append(Fault(place=f"{path}:{line}", text=f"{what[:1].upper()}{what[1:]}."))
        return strict if found else _parse(text, context, check_args=False)[0]

    def directives(self, statements: list[dict[str, Any]], path: str, context: tuple[str, ...]) -> Iterator[Directive]:
        for statement in statements:
            name, args, line = statement["directive"], tuple(statement["args"]), statement["line"]
            self.look_for_semicolon(statement, path, context)
            if name == "include" and args:
                for file in self.source.matching(os.path.join(self.folder, args[0])):
                    yield from self.include(file, f"{path}:{line}", context)
                continue
            block = statement.get("block")
            if block is not None:
                inner = ("http", "location") if name == "location" else (*context, name)
                block = tuple(self.directives(block, path, inner))
            yield Directive(name, args, path, line, block)

    def look_for_semicolon(self, statement: dict[str, Any], path: str, context: tuple[str, ...]) -> None:
        """Tell of a line that has swallowed the next one: a directive's name among too many arguments."""
        swallowed = next((arg for arg in statement["args"][1:] if arg in DIRECTIVES), None)
        if swallowed is None:
            return
        try:
            analyze(path, dict(statement), "{" if "block" in statement else ";", ctx=context, check_ctx=False)
        except NgxParserDirectiveArgumentsError:
            text = f"A semicolon is missing at the end of {statement['directive']!r}: {swallowed!r} follows."
            self.faults.append(Fault(place=f"{path}:{statement['line']}", text=text))


def _parse(
    text: str, context: tuple[str, ...], *, check_args: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return crossplane's statements and errors of one text.

    It knows files alone, and what is allowed in a block only by the blocks around it: so these stand on the first line.
    """
    opened = "".join(f"{name} {'/ ' if name == 'location' else ''}{{" for name in context)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".conf") as file:
        file.write(f"{opened}{text}\n{'}' * len(context)}")
        file.flush()
        parsed = crossplane.parse(file.name, single=True, check_ctx=False, check_args=check_args)
    statements = parsed["config"][0]["parsed"]
    for _ in context:
        statements = statements[0].get("block", []) if statements else []
    named = re.compile(rf" in {re.escape(file.name)}(:\d+)?$")
    return statements, [{**error, "error": named.sub("", error["error"])} for error in parsed["errors"]]
