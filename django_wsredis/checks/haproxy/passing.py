"""The way of a websocket from a frontend of HAProxy to its backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ...conf import Settings
from ..findings import Problem, Row, skipped
from ..kernel import ports_row
from ..own_hosts import need_the_host
from .reading import Line, Section
from .routing import Handshake, condition_of, holds, rewrite
from .wording import text_of

FEW = 1000
# what `http-request`, or the old `redirect`, does in place of passing a request on
ANSWERS = ("redirect", "deny", "reject", "tarpit", "return", "auth", "silent-drop")
DEFAULT_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Pair:
    """A frontend, and the backend to which it leads; of a section `listen` they are the same."""

    frontend: Section
    backend: Section

    @property
    def sections(self) -> list[Section]:
        """Both, each once."""
        return [self.frontend] if self.frontend is self.backend else [self.frontend, self.backend]


@dataclass(slots=True)
class Found:
    """Where a frontend leads a handshake: to a backend, by a line; or nowhere, by the line that answers it.

    refusals, choices: lines of which it is not known whether they answer it, or choose another backend.
    """

    backend: Section | None = None
    line: Line | None = None
    refusals: list[Line] = field(default_factory=list)
    choices: list[Line] = field(default_factory=list)


def find(frontend: Section, backends: dict[str, Section], request: Handshake) -> Found:
    """Return where a frontend leads a handshake."""
    found = Found()
    found.line = _answer(frontend, request, found.refusals)
    if found.line is None:
        _choose(frontend, backends, request, found)
    if found.backend is not None and found.backend is not frontend:
        line = _answer(found.backend, request, found.refusals)
        if line is not None:
            found.backend, found.line = None, line
    return found


def _answer(section: Section, request: Handshake, unknown: list[Line]) -> Line | None:
    """Return the first line by which a section answers a handshake itself.

    unknown: to it those are added that may do so before.
    """
    for line in section.lines:
        if line.words[0] not in ("redirect", "http-request"):
            continue
        action = line.words[0] if line.words[0] == "redirect" else "".join(line.words[1:2])
        truth = holds(section, line, request) if action in (*ANSWERS, "allow") else False
        if truth:
            return line if action in ANSWERS else None
        if truth is None:
            unknown.append(line)
    return None


def _choose(frontend: Section, backends: dict[str, Section], request: Handshake, found: Found) -> None:
    """Look for the backend."""
    for line in frontend.all("use_backend"):
        words, _ = condition_of(line)
        truth = holds(frontend, line, request) if len(words) > 1 else False
        if truth is None or (truth and words[1] not in backends):
            found.choices.append(line)
        elif truth:
            found.backend, found.line = backends[words[1]], line
            return
    default = frontend.get("default_backend")
    if frontend.kind == "listen" and frontend.all("server"):
        found.backend = frontend
    elif default is not None:
        found.backend, found.line = backends.get(default.words[1]) if len(default.words) > 1 else None, default


def rows(pair: Pair, whole: list[Section], settings: Settings, request: Handshake) -> Iterator[Row]:
    """Look at what happens on the way."""
    yield _tunnel(pair, settings)
    if pair.frontend.mode == "http":
        yield _prefix(pair, settings, request)
        yield _headers(pair, request)
        yield _closing(pair)
    yield _maxconn(pair, whole, settings)
    yield ports_row(_tcp_addresses(pair.backend), settings.max_sockets, pair.backend.place)


def _tunnel(pair: Pair, settings: Settings) -> Row:
    """Compare how long HAProxy waits with how often we ping: `tunnel` takes the place of both others."""
    ping = settings.ping_interval
    tunnel = pair.backend.seconds("tunnel")
    times = {"client": pair.frontend.seconds("client"), "server": pair.backend.seconds("server")}
    name, seconds = "tunnel", tunnel
    if tunnel is None:
        name, seconds = min(times.items(), key=lambda item: float("inf") if item[1] is None else item[1])
    if seconds is None:
        return Row(checked="timeout", found="none")
    found = f"timeout {name} {seconds:g} s; a ping each {ping:g} s"
    if seconds > ping:
        return Row(checked="timeout", found=found)
    line = (pair.frontend if name == "client" else pair.backend).get("timeout", name)
    problem = Problem(
        id="wsredis.E503",
        text=f"timeout {name} is {seconds:g} s, not above PING_INTERVAL, {ping:g} s: "
        "what is silent between two pings is cut.",
        hint=f"timeout tunnel {max(DEFAULT_TIMEOUT_SECONDS, int(3 * ping))}s  # in {_name(pair.backend)}",
        place=line.place if line else "",
    )
    return Row(checked="timeout", found=found, problems=(problem,))


def _name(section: Section) -> str:
    return f"{section.kind} {section.name}"


def _prefix(pair: Pair, settings: Settings, request: Handshake) -> Row:
    path, line = request.path, None
    for section in pair.sections:
        change = rewrite(section, replace(request, path=path))
        line = change.line or line
        if change.path is None:
            return skipped(
                "prefix", f"{line.place if line else ''}: {text_of(line) if line else ''} is not understood here"
            )
        path = change.path
    url = settings.websocket_url
    if line is None or path == request.path:
        return Row(checked="prefix", found=f"{url} is kept")
    if path.startswith(url):
        return Row(checked="prefix", found=f"{request.path} arrives as {path}")
    problem = Problem(
        id="wsredis.E504",
        text=f"{text_of(line)} lets {request.path} arrive as {path}: it is not below WEBSOCKET_URL, and gets 404.",
        hint=_sparing(line, request),
        place=line.place,
    )
    return Row(checked="prefix", found=f"{request.path} arrives as {path}", problems=(problem,))


def _headers(pair: Pair, request: Handshake) -> Row:
    lines = [(section, line) for section in pair.sections for line in section.all("http-request")]
    problems = tuple(
        problem
        for section, line in lines
        if holds(section, line, request) is not False
        if (problem := _header(line, request))
    )
    return Row(checked="headers", found="changed" if problems else "Host and Upgrade are kept", problems=problems)


def _header(line: Line, request: Handshake) -> Problem | None:
    """Return what is wrong with a line that changes a header."""
    words, _ = condition_of(line)
    if len(words) < 3:
        return None
    action, header, value = words[1], words[2].lower(), words[-1]
    if action not in ("set-header", "replace-header", "del-header"):
        return None
    is_kept = value.startswith("%[req.hdr(host") or value in request.hosts
    if header == "host" and not is_kept and need_the_host():
        text = f"{text_of(line)}: browsers' Origins differ from the Host that arrives, and get 400 or 403."
        return Problem(id="wsredis.E505", text=text, hint=_sparing(line, request), place=line.place)
    if header in request.headers and (action == "del-header" or value.lower() != request.headers[header].lower()):
        text = f"{text_of(line)}: what arrives is no websocket, and gets 426."
        return Problem(id="wsredis.E506", text=text, hint=_sparing(line, request), place=line.place)
    return None


def _sparing(line: Line, request: Handshake) -> str:
    """Return how a line would not concern websockets."""
    _, condition = condition_of(line)
    criterion = f"{{ path_beg {request.path.removesuffix('x')} }}"
    if not condition:
        return f"Remove the line; or add at its end: unless {criterion}"
    if condition[0] == "unless":
        return f"Remove the line; or add at its end: || {criterion}"
    return f"Remove the line; or write !{criterion} behind its `if`, and behind each `||`."


def _closing(pair: Pair) -> Row:
    names = [name for name in ("http-server-close", "httpclose", "forceclose") if pair.backend.get("option", name)]
    if names:
        return Row(checked="kept connections", found=f"option {names[0]}")
    problem = Problem(
        id="wsredis.I509",
        text=f"{_name(pair.backend)} keeps connections to the site: a reload may close one just when it is used.",
        hint="option http-server-close",
        place=pair.backend.place,
    )
    return Row(checked="kept connections", found="kept", problems=(problem,))


def _tcp_addresses(backend: Section) -> set[str]:
    """Return where a backend connects to by TCP."""
    addresses = (line.words[2] for line in backend.all("server") if len(line.words) > 2)
    return {each for each in addresses if not each.startswith(("/", "unix@", "abns@", "fd@"))}


def _limits(pair: Pair, whole: list[Section]) -> Iterator[tuple[str, int, str]]:
    """Yield whose maxconn it is, the number, and the place."""
    for section in (*(section for section in whole if section.kind == "global"), pair.frontend):
        line = section.get("maxconn")
        if line and line.words[-1].isdecimal():
            yield section.kind, int(line.words[-1]), line.place
    for line in pair.backend.all("server"):
        if "maxconn" in line.words[:-1]:
            count = line.words[line.words.index("maxconn") + 1]
            if count.isdecimal() and count != "0":
                yield f"server {line.words[1]}", int(count), line.place


def _maxconn(pair: Pair, whole: list[Section], settings: Settings) -> Row:
    """Look at the limits of connections: an open websocket is one."""
    limits, wanted = list(_limits(pair, whole)), settings.max_sockets
    problems = []
    for whose, count, place in limits:
        hint = f"maxconn {wanted or FEW * 10}"
        if wanted is not None and count < wanted:
            text = f"maxconn of {whose} is {count}: an open websocket counts as one, and MAX_SOCKETS is {wanted}."
            problems.append(Problem(id="wsredis.W507", text=text, hint=hint, place=place))
        elif wanted is None and count < FEW:
            text = f"maxconn of {whose} is {count}: so many websockets and requests at once."
            problems.append(Problem(id="wsredis.I508", text=text, hint=hint, place=place))
    found = ", ".join(f"{count} ({whose})" for whose, count, _ in limits)
    return Row(checked="maxconn", found=found or "by the limit of open files", problems=tuple(problems))
