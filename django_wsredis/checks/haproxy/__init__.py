"""HAProxy: its timeouts, and where it passes websockets on."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...conf import Settings
from ..findings import Problem, Row, skipped
from ..own_hosts import own_names
from ..processes import closed, open_to_us
from ..programs import Patience, find_program
from ..situation import Situation
from . import passing
from .reading import Section, files_given, files_of, read
from .routing import Handshake
from .wording import text_of

TITLES = {
    "wsredis.E501": "HAProxy does not accept its configuration.",
    "wsredis.E502": "HAProxy passes websockets nowhere.",
    "wsredis.E503": "HAProxy cuts websockets between two pings.",
    "wsredis.E504": "HAProxy strips the prefix, WEBSOCKET_URL.",
    "wsredis.E505": "HAProxy replaces the Host, so Origins are refused.",
    "wsredis.E506": "HAProxy removes what makes a request a websocket.",
    "wsredis.W507": "HAProxy takes fewer connections than MAX_SOCKETS.",
    "wsredis.I508": "HAProxy takes few connections.",
    "wsredis.I509": "HAProxy keeps connections to the site, which a reload may close.",
}
MAIN_FILE = Path("/etc/haproxy/haproxy.cfg")


OPTION = "--haproxy-conf"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is looked at. name: how rows call it. arguments: those of HAProxy that name the files, or folders."""

    name: str
    arguments: Sequence[Path]
    folder: Path | None = None  # in which it was started

    @property
    def files(self) -> list[Path]:
        """Each file, in the order in which HAProxy reads them."""
        return [file for path in self.arguments for file in files_of(path)]


def look(situation: Situation) -> Iterator[Row]:
    """Look at the program, and at each frontend."""
    patience = Patience()
    program = find_program("haproxy")
    if program is None:
        yield skipped("HAProxy", "not here")
    else:
        said = patience.ask(program, "-v")
        match = re.search(r"version (\S+)", said.text)
        found = f"{match[1] if match else said.first_line}, {program}"
        yield Row(checked="HAProxy", found=found) if match else skipped("HAProxy", found)
    chosen, others = _chosen(situation)
    yield from others
    if chosen is None:
        yield skipped("HAProxy's configuration", f"no {OPTION}, none that may be looked into runs, and no {MAIN_FILE}")
        return
    try:
        sections = read(*chosen.files)
    except OSError as error:
        yield skipped("configuration", f"{error.filename or chosen.name}: {error.strerror}")
        return
    frontends = [section for section in sections if section.kind in ("frontend", "listen")]
    if not chosen.files or (not frontends and situation.haproxy_conf is None):
        yield skipped("configuration", f"{chosen.name} has no {'frontend' if chosen.files else 'file *.cfg'}")
        return
    yield _accepted(program, chosen, patience)
    if situation.settings is None:
        yield skipped("frontends", "the settings are wrong, and they depend on those")
        return
    yield from _frontends(sections, frontends, situation.settings, chosen.files[0])


def _chosen(situation: Situation) -> tuple[Chosen | None, list[Row]]:
    """Return what is looked at: what is given, or what runs, or what is in the usual place; and rows for others."""
    if path := situation.haproxy_conf:
        return Chosen(str(path), [path.absolute()]), []
    processes, rows = open_to_us("haproxy", called="HAProxy", option=OPTION)
    chosen: Chosen | None = None
    for process in processes:
        given = files_given(process.arguments, process.folder)
        each = Chosen(process.name, given, process.folder)
        if not given:
            rows.append(skipped(each.name, f"it runs, and names no file; give {OPTION} PATH"))
        elif row := _closed(each):
            rows.append(row)
        elif chosen is not None:
            rows.append(skipped(each.name, f"it runs, too; to look at it give {OPTION} PATH"))
        else:
            chosen = each
    if chosen is None and MAIN_FILE.is_file():
        chosen = Chosen(str(MAIN_FILE), [MAIN_FILE])
    return chosen, rows


def _closed(chosen: Chosen) -> Row | None:
    """Return a row if a file is another user's: HAProxy runs the Lua that it names."""
    try:
        return closed(chosen.name, [*chosen.arguments, *chosen.files], option=OPTION, is_run=True)
    except OSError as error:
        return skipped(chosen.name, f"{error.filename}: {error.strerror}")


def _accepted(program: Path | None, chosen: Chosen, patience: Patience) -> Row:
    """Let HAProxy itself read its configuration."""
    if program is None:
        return skipped("haproxy -c", "there is no haproxy to read it")
    given = [word for path in chosen.arguments for word in ("-f", str(path))]
    said = patience.ask(program, "-c", *given, folder=chosen.folder)
    if said.status is None:
        return skipped("haproxy -c", said.first_line)
    shown = ", ".join(map(str, chosen.files))
    if said.status == 0:
        return Row(checked="configuration", found=shown)
    alerts = re.findall(r"(?m)^\[ALERT\].*?: (?:config : )?(.*)", said.text) or [said.first_line]
    if os.geteuid() != 0 and re.search("unable to (?:load|open|stat)|ermission denied", said.text):
        return skipped("haproxy -c", f"it needs root: {alerts[0]}")
    match = re.search(r"\[(\S+:\d+)\]", alerts[0])
    problem = Problem(
        id="wsredis.E501",
        text=f"HAProxy refuses it: {alerts[0]}",
        hint=f"haproxy -c {shlex.join(given)} says it all.",
        place=match[1] if match else shown,
    )
    return Row(checked="configuration", found=shown, problems=(problem,))


def _frontends(sections: list[Section], frontends: list[Section], settings: Settings, path: Path) -> Iterator[Row]:
    backends = {section.name: section for section in sections if section.kind in ("backend", "listen")}
    ways, is_sent_on = 0, False
    for frontend in frontends:
        label = f"{frontend.kind} {frontend.name}"
        # where a listener has TLS browsers come by it: what is for the others is mostly `redirect scheme https`
        has_tls = any("ssl" in line.words for line in frontend.all("bind"))
        request = Handshake(f"{settings.websocket_url}x", own_names(), has_tls)
        found = passing.find(frontend, backends, request)
        for each in (*found.refusals, *found.choices):
            yield skipped(label, f"{each.place}: {text_of(each)}: on what it depends is not known here")
        line, backend = found.line, found.backend
        if backend is None:
            is_sent_on = is_sent_on or bool(found.choices)
            yield Row(checked=label, found=f"{text_of(line)}, {line.place}" if line else "no backend for websockets")
            continue
        ways += 1
        chosen = f"by {text_of(line)}" if line else "by itself"
        yield Row(checked=label, found=f"mode {frontend.mode}, to {backend.kind} {backend.name} {chosen}")
        for row in passing.rows(passing.Pair(frontend, backend), sections, settings, request):
            yield replace(row, checked=f"{frontend.name}: {row.checked}") if len(frontends) > 1 else row
    if not ways and not is_sent_on:
        url = settings.websocket_url
        text = f"No frontend leads {url} to a backend: websockets get 503, or another answer of HAProxy's own."
        hint = f"use_backend site if {{ path_beg {url} }}; ./manage.py wscheck --emit haproxy prints it all."
        place = frontends[0].place if frontends else str(path)
        yield Row(
            checked="way",
            found="none",
            problems=(Problem(id="wsredis.E502", text=text, hint=hint, place=place),),
        )
