"""HAProxy: its timeouts, and where it passes websockets on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ...conf import Settings
from ..findings import Problem, Row, skipped
from ..own_hosts import own_names
from ..programs import Patience, find_program
from ..situation import Situation
from . import passing
from .reading import Section, read
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


def look(situation: Situation) -> Iterator[Row]:
    """Look at the program, and at each frontend."""
    patience = Patience()
    program = find_program("haproxy")
    path = situation.haproxy_conf or (MAIN_FILE if MAIN_FILE.is_file() else None)
    if program is None:
        yield skipped("HAProxy", "not here")
    else:
        said = patience.ask(program, "-v")
        match = re.search(r"version (\S+)", said.text)
        found = f"{match[1] if match else said.first_line}, {program}"
        yield Row(checked="HAProxy", found=found) if match else skipped("HAProxy", found)
    if path is None:
        yield skipped("HAProxy's configuration", f"no --haproxy-conf, and no {MAIN_FILE}")
        return
    try:
        sections = read(path)
    except OSError as error:
        yield skipped("configuration", f"{path}: {error.strerror}")
        return
    frontends = [section for section in sections if section.kind in ("frontend", "listen")]
    if not frontends and situation.haproxy_conf is None:
        yield skipped("configuration", f"{path} has no frontend")
        return
    yield _accepted(program, path, patience)
    if situation.settings is None:
        yield skipped("frontends", "the settings are wrong, and they depend on those")
        return
    yield from _frontends(sections, frontends, situation.settings, path)


def _accepted(program: Path | None, path: Path, patience: Patience) -> Row:
    """Let HAProxy itself read its configuration."""
    if program is None:
        return skipped("haproxy -c", "there is no haproxy to read it")
    said = patience.ask(program, "-c", "-f", path.absolute())
    if said.status is None:
        return skipped("haproxy -c", said.first_line)
    if said.status == 0:
        return Row(checked="configuration", found=str(path))
    alerts = re.findall(r"(?m)^\[ALERT\].*?: (?:config : )?(.*)", said.text) or [said.first_line]
    if os.geteuid() != 0 and re.search("unable to (?:load|open|stat)|ermission denied", said.text):
        return skipped("haproxy -c", f"it needs root: {alerts[0]}")
    match = re.search(r"\[(\S+:\d+)\]", alerts[0])
    problem = Problem(
        id="wsredis.E501",
        text=f"HAProxy refuses it: {alerts[0]}",
        hint=f"haproxy -c -f {path} says it all.",
        place=match[1] if match else str(path),
    )
    return Row(checked="configuration", found=str(path), problems=(problem,))


def _frontends(sections: list[Section], frontends: list[Section], settings: Settings, path: Path) -> Iterator[Row]:
    backends = {section.name: section for section in sections if section.kind in ("backend", "listen")}
    request = Handshake(f"{settings.websocket_url}x", own_names())
    ways, is_sent_on = 0, False
    for frontend in frontends:
        label = f"{frontend.kind} {frontend.name}"
        backend, line, unknown = passing.find(frontend, backends, request)
        for each in unknown:
            yield skipped(label, f"{each.place}: {text_of(each)}: on what it depends is not known here")
        if backend is None:
            is_sent_on = is_sent_on or bool(unknown)
            yield Row(checked=label, found=f"{text_of(line)}, {line.place}" if line else "no backend for websockets")
            continue
        ways += 1
        chosen = f"by {text_of(line)}" if line else "by itself"
        yield Row(checked=label, found=f"mode {frontend.mode}, to {backend.kind} {backend.name} {chosen}")
        for row in passing.rows(passing.Way(frontend, backend), sections, settings, request):
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
