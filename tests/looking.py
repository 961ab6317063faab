"""What wscheck finds in the configuration of a server: the printed one, and that with one thing changed."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from django.core.management import call_command
from django.test import override_settings
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from django_wsredis.checks.findings import Problem, Row
from django_wsredis.checks.situation import Situation

from .layouts import Layout

Change = Callable[[str], str]
DRAIN_SECONDS = 5
SETTINGS = {"WSREDIS": {"URL": "redis://127.0.0.1:1/0", "DRAIN_SECONDS": DRAIN_SECONDS}}
FACILITY = "layout?subscribe-broadcast"


def emit(kind: str, folder: Path, *options: str, **settings: Any) -> list[Path]:
    """Have a configuration written; return its files."""
    output = io.StringIO()
    with override_settings(**{**SETTINGS, **settings}):
        call_command("wscheck", "--emit", kind, "--output", str(folder), *options, stdout=output)
    return [Path(line) for line in output.getvalue().splitlines()]


def look(area: ModuleType, path: Path | None, settings: dict[str, Any] | None = None) -> list[Row]:
    """Return what is found in a server's configuration; None: in what runs, or in the usual place."""
    name = area.__name__.rpartition(".")[2]
    with override_settings(**{**SETTINGS, **(settings or {})}):
        return list(area.look(Situation(**{f"{name}_conf": path})))


def problems(rows: list[Row]) -> list[Problem]:
    return [problem for row in rows for problem in row.problems]


def ids(rows: list[Row]) -> list[str]:
    """Return the ids of all problems, as they are written here: `E301`."""
    return [problem.id.removeprefix("wsredis.") for problem in problems(rows)]


def found(rows: list[Row], checked: str) -> Row:
    """Return the row of something."""
    (row,) = (row for row in rows if row.checked == checked)
    return row


def swap(pattern: str, replacement: str) -> Change:
    """Return what replaces something that must be there; ^ and $ are of a line."""

    def change(text: str) -> str:
        assert re.search(pattern, text, re.M), f"no {pattern} in:\n{text}"
        return re.sub(pattern, replacement, text, flags=re.M)

    return change


def drop(*names: str) -> Change:
    """Return what removes the lines that begin with something."""
    return swap(rf"^ *(?:{'|'.join(names)})\b.*\n", "")


def add(*lines: str) -> Change:
    """Return what adds lines to the end."""
    return lambda text: text + "".join(f"{line}\n" for line in lines)


def after(pattern: str, *lines: str) -> Change:
    """Return what adds lines after one."""
    return swap(rf"^(.*{pattern}.*)$", "\n".join([r"\1", *lines]))


def assert_said_well(problem: Problem, path: Path) -> None:
    """See that a problem names its place, if it stands in the file, and what to do."""
    assert problem.hint
    assert "None" not in problem.text + problem.hint
    if ":" in problem.place:
        name, _, line = problem.place.rpartition(":")
        assert Path(name).is_file()
        assert 1 <= int(line) <= len(Path(name).read_text().splitlines())
        assert name == str(path) or Path(name).name in ("pages.ini", "websockets.ini")


def assert_all_is_well(rows: list[Row]) -> None:
    """See that nothing is wrong, and that everything could be looked at."""
    assert problems(rows) == []
    assert [row.found for row in rows if row.is_skipped] == []


def assert_only(seen: list[Problem], id: str, path: Path) -> None:
    """See that one problem was found, E301 or so, and that it is said well."""
    (problem,) = seen
    assert problem.id == f"wsredis.{id}"
    assert_said_well(problem, path)


def end_of(socket: ClientConnection, seconds: float = 15) -> int | None:
    """Return the code with which a websocket is closed, 1006 where it is cut; None if it still lives in the end."""
    try:
        while True:
            socket.recv(seconds)
    except TimeoutError:
        return None
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006


def many_views(layout: Layout) -> None:
    """Have more requests than a worker may answer."""
    for _ in range(40):
        layout.get()


def status_of(layout: Layout) -> int:
    """Return the answer to the handshake of a browser."""
    with layout.raw(FACILITY, {"Origin": layout.origin}) as raw:
        return raw.answer.status
