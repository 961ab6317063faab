"""The program: where it is, its version, and what it says of its configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from ..findings import Problem, Row, skipped
from ..programs import Patience, find_program
from .reading import Directive

TITLES = {
    "wsredis.E201": "NGiNX is older than 1.3.13, the first that passes websockets on.",
    "wsredis.E202": "The configuration has what this NGiNX does not know yet.",
}
NAMES = ("nginx", "openresty", "angie")  # of programs; Tengine's and freenginx's is nginx
USUAL_PATH = "/etc/nginx/nginx.conf"
NAME = re.compile(r"version: (\S+/[\d.]+)")
# Angie and Tengine tell NGiNX' number beside their own, `nginx version: nginx/1.24.0` or `(nginx/1.8.1)`, or not at
# all; OpenResty's begins with it, `openresty/1.21.4.1`; freenginx has numbers of its own
VERSION = re.compile(r"(?:\bnginx|openresty)/(\d+)\.(\d+)\.(\d+)")
FIRST = (1, 3, 13)
EMERGENCY = re.compile(r"\[emerg\] (?:\d+#\d+: )?(?P<text>.*?)(?: in (?P<place>/\S+:\d+))?$", re.M)
NO_RIGHTS = re.compile(r"Operation not permitted|Permission denied")  # the system's words, and of OpenSSL

Version = tuple[int, ...]

# (directive, a word among its arguments, the first version that has it), as nginx.org/en/CHANGES and its manual say
SINCE: tuple[tuple[str, str, Version], ...] = (
    ("http2", "", (1, 25, 1)),
    ("http3", "", (1, 25, 0)),
    ("listen", "quic", (1, 25, 0)),
    ("ssl_reject_handshake", "", (1, 19, 4)),
    ("server", "resolve", (1, 27, 3)),  # of an upstream; before that in NGiNX Plus
    ("proxy_http_version", "2", (1, 29, 4)),
)
NEW_VARIABLES: tuple[tuple[str, Version], ...] = (("request_port", (1, 29, 3)), ("is_request_port", (1, 29, 3)))
HTTP_1_1_BY_DEFAULT = (1, 29, 7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """NGiNX as it is installed, or what others have made of it.

    name: with the number that it gives itself, `Tengine/2.3.3`; "" if it does not tell. version: that of NGiNX; empty
    if it does not tell. patience: for all that it is asked.
    """

    path: Path
    name: str = ""
    version: Version = ()
    main_path: str = USUAL_PATH
    pid_path: str = ""
    patience: Patience = field(default_factory=Patience)

    @property
    def shown_version(self) -> str:
        number = _shown(self.version)
        return number if self.name == f"nginx/{number}" else f"{number} in {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What `nginx -T` says: the files, or why it refuses them. is_denied: it lacks a right, so that is no verdict."""

    dump: str = ""
    refusal: str = ""
    place: str = ""
    is_denied: bool = False


def find() -> Program | None:
    """Return the program, None if there is none."""
    path = find_program(*NAMES)
    if path is None:
        return None
    patience = Patience()
    said, _, arguments = patience.ask(path, "-V").text.partition("configure arguments:")
    name, version = NAME.search(said), VERSION.search(said)
    main, pid = (re.search(rf"--{option}-path=(\S+)", arguments) for option in ("conf", "pid"))
    return Program(
        path=path,
        name=name[1] if name else "",
        version=tuple(map(int, version.groups())) if version else (),
        main_path=main[1] if main else USUAL_PATH,
        pid_path=pid[1] if pid else "",
        patience=patience,
    )


def ask(program: Program) -> Said:
    """Have it read its own configuration: `nginx -T`."""
    answer = program.patience.ask(program.path, "-T", as_nobody=True)  # which else makes files
    if answer.status is None:
        return Said(refusal=answer.text, is_denied=True)
    said = answer.text
    start = said.find("# configuration file ")
    if start >= 0:
        return Said(dump=said[start:])
    found = EMERGENCY.search(said)
    text = found["text"] if found else (said.strip().splitlines() or ["it printed nothing"])[-1]
    return Said(
        refusal=text,
        place=(found and found["place"]) or "",
        is_denied=found is None or NO_RIGHTS.search(text) is not None,
    )


def look(program: Program) -> Row:
    """Tell which one was found."""
    if not program.name:
        return skipped("nginx", f"{program.path} -V told no version")
    if not program.version:
        return skipped("nginx", f"{program.name}, {program.path}: which NGiNX it is made of it does not tell")
    found = f"{program.shown_version}, {program.path}"
    if program.version >= FIRST:
        return Row(checked="nginx", found=found)
    problem = Problem(
        id="wsredis.E201",
        text=f"NGiNX is {program.shown_version}: every websocket gets 400 or 502, since it passes no upgrade on.",
        hint="Install one that is maintained, as by: apt-get install nginx",
    )
    return Row(checked="nginx", found=found, problems=(problem,))


def look_at_needs(program: Program | None, main: Directive) -> Row:
    """See whether the program knows what the configuration uses."""
    needs = sorted(_needs(main), key=lambda need: need[1], reverse=True)
    if not needs:
        return Row(checked="version needed", found=f"{'.'.join(map(str, FIRST))}: nothing newer is used")
    directive, first = needs[0]
    found = f"{_shown(first)}, for `{directive.text}`"
    if program is None or not program.version:
        return skipped("version needed", f"{found}; which NGiNX it is for is not known")
    wrong = tuple(
        Problem(
            id="wsredis.E202",
            text=f"`{directive.text}` needs NGiNX {_shown(first)}; this one, {program.shown_version}, does not start.",
            hint=_instead(directive),
            place=directive.place,
        )
        for directive, first in needs
        if program.version < first
    )
    return Row(checked="version needed", found=found, problems=wrong)


def _needs(main: Directive) -> list[tuple[Directive, Version]]:
    found = []
    for directive in main.walk():
        for name, word, first in SINCE:
            if directive.name == name and (not word or word in directive.args):
                found.append((directive, first))
        for name, first in NEW_VARIABLES:
            if any(re.search(rf"\$\{{?{name}\b", arg) for arg in directive.args):
                found.append((directive, first))
    return found


def _instead(directive: Directive) -> str:
    if directive.name == "http2":
        return "Remove the line, and write `listen 443 ssl http2;`; or install a newer NGiNX."
    if "request_port" in directive.text:
        return "Write $http_host instead; or install a newer NGiNX."
    return f"Remove `{directive.text}`, or install a newer NGiNX."


def _shown(version: Version) -> str:
    return ".".join(map(str, version))
