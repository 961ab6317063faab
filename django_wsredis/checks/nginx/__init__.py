"""NGiNX: the program, and the location that WEBSOCKET_URL really reaches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ...wording import of_them, sentence
from ..findings import Problem, Row, skipped
from ..situation import Situation
from . import access, arriving, capacity, host, lasting, passing, program, scheme, upstreams
from .choosing import meant
from .program import Program, Said
from .reaching import arrivals
from .reading import Configuration, Fault, read_dump, read_file
from .running import surroundings

TITLES: dict[str, str] = {
    **program.TITLES,
    "wsredis.E203": "The configuration cannot be read, or NGiNX refuses it.",
    **arriving.TITLES,
    **passing.TITLES,
    **host.TITLES,
    **scheme.TITLES,
    **lasting.TITLES,
    **access.TITLES,
    **upstreams.TITLES,
    **capacity.TITLES,
}


def look(situation: Situation) -> Iterator[Row]:
    """Look at the program, then at its configuration: the given one, or what it prints itself, or the usual place."""
    found = program.find()
    yield program.look(found) if found else skipped("nginx", "there is none on PATH")
    said = program.ask(found) if found and situation.nginx_conf is None else Said()
    configuration = _read(situation, found, said)
    if configuration is None:
        yield skipped("configuration", said.refusal or "none is found; name it with --nginx-conf PATH")
        return
    yield from _configuration(configuration, said, is_named=situation.nginx_conf is not None)
    if not configuration.files or any(not fault.is_denied for fault in configuration.faults):
        yield skipped("WEBSOCKET_URL", "the configuration has to be mended, or readable, first")
        return
    if situation.settings is None:
        yield skipped("WEBSOCKET_URL", "the settings are wrong")
        return
    url = situation.settings.websocket_url
    in_use = arrivals(configuration.http, url)
    chosen = meant(in_use)
    if not chosen and situation.nginx_conf is None:
        yield skipped("WEBSOCKET_URL", f"no server in {configuration.path} is for this site; is it --nginx-conf PATH?")
        return
    around = surroundings(configuration, found)
    yield program.look_at_needs(around.program, configuration.main)
    yield from arriving.look(configuration, chosen or in_use, situation.settings, around)
    yield from capacity.look(configuration, situation.settings, around.workers)


def _read(situation: Situation, found: Program | None, said: Said) -> Configuration | None:
    usual = found.main_path if found else program.USUAL_PATH
    if situation.nginx_conf is not None:
        return read_file(situation.nginx_conf, os.path.dirname(usual))
    if said.dump:
        return read_dump(said.dump)
    return read_file(Path(usual), os.path.dirname(usual)) if os.path.isfile(usual) else None


def _configuration(configuration: Configuration, said: Said, *, is_named: bool) -> Iterator[Row]:
    kind = "" if configuration.is_whole else ", a site's file"
    is_closed = is_named and not configuration.files  # what somebody names is to be looked at
    problems = [
        Problem(id="wsredis.E203", text=fault.text, hint=_mending(fault), place=fault.place)
        for fault in configuration.faults
        if is_closed or not fault.is_denied
    ]
    if said.refusal and not said.is_denied and not problems:
        hint = "NGiNX does not start, or does not load it. Mend that line; this says when it is right: nginx -t"
        problems.append(
            Problem(
                id="wsredis.E203",
                text=sentence(f"NGiNX refuses it: {said.refusal}"),
                hint=hint,
                place=said.place or f"{configuration.path}:1",
            )
        )
    found = f"{configuration.path}{kind}, {of_them(configuration.files, 'file')}"
    yield Row(checked="configuration", found=found, problems=tuple(problems))
    for fault in configuration.faults:
        if fault.is_denied and not is_closed:
            yield skipped("file", f"{fault.text[:-1]}: run it as root")
    if said.is_denied:
        yield skipped("nginx -T", f"{said.refusal}; its files are read instead")


def _mending(fault: Fault) -> str:
    if fault.is_denied:
        return "Run wscheck as a user who may read it, as root: sudo ./manage.py wscheck --only nginx --nginx-conf PATH"
    if ":" in fault.place:
        return "Mend that line; this says when it is right: nginx -t"
    return "Name a file that can be read."
