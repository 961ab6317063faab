"""The program of Apache: its version, and the modules that were built into it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ...wording import of_them
from ..findings import Row, skipped
from ..processes import closed
from ..programs import Patience
from .reading import module_name

# the processing modules, whose files do not begin with mod_
MPMS = {f"{name}.c": f"mpm_{name}_module" for name in ("event", "worker", "prefork")}


@dataclass(frozen=True, slots=True)
class Program:
    """An Apache. version: () if it is not known. modules: those that are in it without LoadModule."""

    version: tuple[int, ...] = ()
    modules: frozenset[str] = frozenset()


def inspect(path: Path | None) -> tuple[Program, Row]:
    """Ask an Apache what it is, which reads no configuration; with the row that tells of it."""
    if path is None:
        return Program(), skipped("Apache", "neither apache2 nor httpd is here")
    if row := closed("Apache", [path], option="--apache-conf", is_run=False):
        return Program(), row
    patience = Patience()
    said = patience.ask(path, "-v")
    match = re.search(r"Apache/(\d+)\.(\d+)\.(\d+)", said.text)
    if match is None:
        return Program(), skipped("Apache", f"{path}: {said.first_line}")
    listed = re.findall(r"(?m)^ +(\w+\.c)$", patience.ask(path, "-l").text)
    modules = frozenset(MPMS.get(name) or module_name(name) for name in listed)
    found = f"{match[0][7:]}, {path}; {of_them(len(modules), 'module')} built in"
    return Program(tuple(map(int, match.groups())), modules), Row(checked="Apache", found=found)
