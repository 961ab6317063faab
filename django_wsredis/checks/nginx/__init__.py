"""NGiNX: the program, and the location that WEBSOCKET_URL really reaches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ...conf import Settings
from ..findings import Problem, Row, skipped
from ..situation import Situation
from . import access, capacity, identity, lasting, passing, program, upstreams
from .configuration import Configuration, read_dump, read_file
from .locations import unreadable
from .program import Program, Said
from .reaching import Way, answering, meant, sides, ways
from .running import Account, account_of, running

TITLES: dict[str, str] = {
    **program.TITLES,
    "wsredis.E203": "The configuration cannot be read, or NGiNX refuses it.",
    "wsredis.E204": "What WEBSOCKET_URL reaches does not pass websockets to the site.",
    "wsredis.W205": "Some websockets below WEBSOCKET_URL reach another location, which does not pass them on.",
    **passing.TITLES,
    **identity.TITLES,
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
    yield from _configuration(configuration, said)
    if any(not fault.is_denied for fault in configuration.faults):
        yield skipped("WEBSOCKET_URL", "the configuration is to be mended first")
        return
    if situation.settings is None:
        yield skipped("WEBSOCKET_URL", "the settings are wrong")
        return
    url = situation.settings.websocket_url
    in_use = ways(configuration.http, url)
    chosen = meant(in_use)
    if not chosen and situation.nginx_conf is None:
        yield skipped("WEBSOCKET_URL", f"no server in {configuration.path} is for this site; is it --nginx-conf PATH?")
        return
    yield program.look_at_needs(found, configuration.main)
    yield from _ways(chosen or in_use, situation.settings, found, configuration)
    yield from capacity.look(configuration, situation.settings, running(configuration))


def _read(situation: Situation, found: Program | None, said: Said) -> Configuration | None:
    usual = found.configuration if found else program.USUAL_PATH
    if situation.nginx_conf is not None:
        return read_file(situation.nginx_conf, os.path.dirname(usual))
    if said.dump:
        return read_dump(said.dump)
    return read_file(Path(usual), os.path.dirname(usual)) if os.path.isfile(usual) else None


def _configuration(configuration: Configuration, said: Said) -> Iterator[Row]:
    kind = "" if configuration.is_whole else ", a site's file"
    problems = [
        Problem(id="wsredis.E203", text=fault.text, hint="`nginx -t` says when it is right.", place=fault.place)
        for fault in configuration.faults
        if not fault.is_denied
    ]
    if said.refusal and not said.is_denied and not problems:
        hint = "NGiNX does not start, or does not load it: mend it, and see with `nginx -t`."
        problems.append(
            Problem(id="wsredis.E203", text=f"NGiNX refuses it: {said.refusal}.", hint=hint, place=said.place)
        )
    count = configuration.files
    found = f"{configuration.path}{kind}, {count} file{'s'[: count != 1]}"
    yield Row(checked="configuration", found=found, problems=tuple(problems))
    for fault in configuration.faults:
        if fault.is_denied:
            yield skipped("included file", f"{fault.text[:-1]}: run it as root")
    if said.is_denied:
        yield skipped("nginx -T", f"{said.refusal}: run it as root")


def _ways(found: list[Way], settings: Settings, nginx: Program | None, configuration: Configuration) -> Iterator[Row]:
    """Look at each way in, once for each location that it ends in."""
    looked_at: set[tuple[int, bool]] = set()
    if not found:
        yield _without_server(configuration)
    account = _account(configuration)
    has_passing = any(way.route.passing for way in found)
    for way in sorted(found, key=lambda way: not way.door.has_tls):  # what is most used comes first
        yield _way(way, is_spare=has_passing and way.route.redirects)
        passed = way.route.passing
        key = (id(way.route.location), way.route.request.http_host == way.route.request.host)
        if passed is None or key in looked_at:
            continue
        looked_at.add(key)
        yield from access.look(way, nginx)
        yield from passing.look(way.route, passed, settings.websocket_url, nginx)
        yield from identity.look(way.route, passed)
        yield from lasting.look(way.route, passed, settings)
        yield from upstreams.look(way.route, passed, account)
        yield from _sides(way, settings, nginx)


def _account(configuration: Configuration) -> Account | None:
    """Return the account of NGiNX's workers: as they run, or as they will."""
    now = running(configuration)
    return now.account if now else account_of(configuration)


def _without_server(configuration: Configuration) -> Row:
    problem = Problem(
        id="wsredis.E204",
        text=f"{configuration.path} has no server that browsers could reach.",
        hint="`./manage.py wscheck --emit nginx` prints one.",
        place=f"{configuration.path}:1",
    )
    return Row(checked="WEBSOCKET_URL", found="no server", problems=(problem,))


def _way(way: Way, *, is_spare: bool) -> Row:
    """Tell where a way ends. is_spare: it need not lead to the site, as another one does."""
    route = way.route
    by = "" if way.is_named else ", by default"
    head = f"server at {route.server.place}{by}"
    doubts = "".join(f"; not known: `{found.text}` at {found.place}" for found in route.doubtful)
    checked = f"to {way.shown}"
    if route.passing is not None:
        rewritten = "".join(f" → `{found.text}`" for found in route.rewriting)
        found = (
            f"{head}{rewritten} → `{route.location.text}` at {route.location.place} → `{route.passing.text}`{doubts}"
        )
        return Row(checked=checked, found=found)
    found = f"{head}: {answering(route)}{doubts}"
    if is_spare:
        return Row(checked=checked, found=found)
    if route.doubtful:
        return skipped(checked, found)
    hint = f"Pass {way.url} on to the site: `./manage.py wscheck --emit nginx` prints how."
    if route.redirects:
        hint += " A websocket follows no redirect."
    elif route.location.name == "location":
        hint += f" Begin with: location ^~ {way.url} {{"
    problem = Problem(
        id="wsredis.E204",
        text=f"{way.shown} does not reach the site: {answering(route)}.",
        hint=hint,
        place=(route.stop or route.location).place,
    )
    return Row(checked=checked, found=found, problems=(problem,))


def _sides(way: Way, settings: Settings, nginx: Program | None) -> Iterator[Row]:
    """Look at other locations that catch some websockets."""
    caught = []
    for route in sides(way):
        passed = route.passing
        if passed is None:
            caught.append(route)
            continue
        rows = [*passing.look(route, passed, settings.websocket_url, nginx), *identity.look(route, passed)]
        for row in (*rows, *lasting.look(route, passed, settings)):
            if row.problems:
                yield replace(row, checked=f"{row.checked} of `{route.location.text}`")
    problems = tuple(
        Problem(
            id="wsredis.W205",
            text=f"{route.request.uri} does not reach the site: {answering(route)}.",
            hint=f"Let no expression and no other prefix come first: location ^~ {way.url} {{"
            if route.location.args[:1] in (("~",), ("~*",))
            else "Remove that location, or give that facility another name.",
            place=(route.stop or route.location).place,
        )
        for route in caught
    )
    found = ", ".join(f"`{route.location.text}` catches {route.request.uri}" for route in caught) or "none in the way"
    yield Row(checked="other locations", found=found, problems=problems)
    for location in unreadable(way.route.server):
        yield skipped("other locations", f"`{location.text}` at {location.place} cannot be read here")
