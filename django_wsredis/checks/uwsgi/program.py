"""The uWSGI program: its version, its Python, and what it was built with."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ..findings import Problem, Row, skipped
from ..programs import Patience
from .reading import OptionList

MIN_VERSION = (2, 0, 30)  # the oldest that the tests run
UNTESTED = (2, 1)
REBUILD = "sudo apt install {}, then pip install --force-reinstall --no-cache-dir uwsgi."
# what is needed → the option that tells whether it was built in, and what to install first
PARTS = {"gevent": "gevent", "PCRE": "route", "TLS": "https"}
# the versions with which the tests run uWSGI; its plugin for gevent depends on the insides of all of them
TESTED = {"gevent": "26.9", "greenlet": "3.5", "Python": "3.11"}
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A uWSGI. options: the names of all that it knows. is_wheel: whether it is pyuwsgi, a module that Python runs.

    lacks_plugins: whether a plugin could not be loaded when it was asked for its options.
    """

    path: Path
    version: str
    python: str  # major.minor.micro; "" if it has none
    options: frozenset[str]
    is_wheel: bool
    lacks_plugins: bool = False

    def has(self, part: str) -> bool:
        """Tell whether one of PARTS was built in."""
        return PARTS[part] in self.options


def inspect(path: Path, configuration: OptionList | None, patience: Patience) -> Program | str:
    """Ask a uWSGI what it is, with the plugins that a configuration loads; or return why that could not be."""
    plugins = [
        word
        for option in (configuration.all("plugins-dir", "plugins") if configuration else ())
        for word in (f"--{option.name}", option.value)
    ]
    said = patience.ask(path, "--version")
    if said.status != 0:
        return said.first_line
    help_text = patience.ask(path, *plugins, "--help")
    python = patience.ask(path, *plugins, "--python-version")
    if help_text.status is None:
        return help_text.first_line
    match = re.search(r"^\d+\.\d+\.\d+", python.text, re.M) if python.status == 0 else None
    return Program(
        path=path,
        version=said.first_line,
        python=match[0] if match else "",
        options=frozenset(re.findall(r"--([\w-]+)", "\n".join(re.findall(r"(?m)^ +(-\S+)", help_text.text)))),
        is_wheel=_is_wheel(path),
        lacks_plugins="UNABLE to load uWSGI plugin" in help_text.text,
    )


def _is_wheel(path: Path) -> bool:
    """Tell whether it is the wheel's: a script that imports an extension module."""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError:
        return False
    return head.startswith(b"#!") and b"pyuwsgi" in head


def rows(program: Program, configurations: list[OptionList]) -> Iterator[Row]:
    """Say what it is, and what the configurations need that it lacks."""
    yield _version(program, is_used=bool(configurations))
    yield _python(program, is_used=bool(configurations))
    lacks = tuple(problem for conf in configurations for problem in _lacks(program, conf))
    built_in = ", ".join(part for part in PARTS if program.has(part)) or "none of gevent, PCRE and TLS"
    yield Row(checked="built with", found=built_in, problems=lacks)
    if any(conf.get("gevent") for conf in configurations):
        yield _pair(program)


def _pair(program: Program) -> Row:
    """Say what shares a loop here, and what is known to work. Pairs that are known to crash are too old for us."""
    found = {"gevent": version("gevent"), "greenlet": version("greenlet"), "Python": program.python or PYTHON}
    here, tested = (", ".join(f"{name} {number}" for name, number in each.items()) for each in (found, TESTED))
    return Row(
        checked="uWSGI and gevent", found=f"uWSGI {program.version}, {here}; tested: uWSGI 2.0.30 and 2.0.31, {tested}"
    )


def _version(program: Program, *, is_used: bool) -> Row:
    found = f"{program.version}, {program.path}" + (", the wheel pyuwsgi" if program.is_wheel else "")
    numbers = tuple(map(int, re.findall(r"\d+", program.version)[:3]))
    if not is_used or MIN_VERSION <= numbers < UNTESTED:
        return Row(checked="uWSGI", found=found)
    problem = Problem(
        id="wsredis.W301",
        text=f"uWSGI {program.version} is not tested with us; 2.0.30 and newer of 2.0 are.",
        hint="pip install 'uwsgi>=2.0.30,<2.1'",
    )
    return Row(checked="uWSGI", found=found, problems=(problem,))


def _python(program: Program, *, is_used: bool) -> Row:
    if not program.python:
        return skipped("Python of uWSGI", "it tells none: Python is a plugin that its configuration does not load")
    if not is_used or program.python.rpartition(".")[0] == PYTHON:
        return Row(checked="Python of uWSGI", found=program.python)
    problem = Problem(
        id="wsredis.E302",
        text=f"{program.path} was built for Python {program.python}, and this project runs on {PYTHON}.",
        hint=f"{sys.executable} -m pip install --force-reinstall --no-cache-dir uwsgi",
    )
    return Row(checked="Python of uWSGI", found=program.python, problems=(problem,))


def _lacks(program: Program, configuration: OptionList) -> Iterator[Problem]:
    gevent, https = configuration.get("gevent"), configuration.get("https")
    route = next((option for option in configuration.options if option.name.startswith("route")), None)
    if gevent and not program.has("gevent"):
        yield Problem(
            id="wsredis.E303",
            text=f"gevent = {gevent.value}, and this uWSGI was built without gevent.",
            hint="With Debian's packages: plugins = python3,gevent_python3. Else threads = 4, enable-threads = true.",
            place=gevent.place,
        )
    if route and not program.has("PCRE"):
        yield Problem(
            id="wsredis.E304",
            text=f"{route.name} = {route.value.partition(' ')[0]} …, and this uWSGI was built without PCRE.",
            hint=REBUILD.format("libpcre2-dev"),
            place=route.place,
        )
    if https and not program.has("TLS"):
        wheel = "the wheel pyuwsgi never has it" if program.is_wheel else REBUILD.format("libssl-dev")
        yield Problem(
            id="wsredis.E305",
            text=f"https = {https.value}, and this uWSGI was built without TLS.",
            hint=f"pip install uwsgi, which compiles it: {wheel}" if program.is_wheel else wheel,
            place=https.place,
        )
    if (emperor := configuration.get("emperor")) and program.is_wheel:
        yield Problem(
            id="wsredis.E306",
            text=f"emperor = {emperor.value}, and the wheel pyuwsgi starts vassals with the wrong program.",
            hint="pip uninstall pyuwsgi, then pip install uwsgi, which compiles it.",
            place=emperor.place,
        )
