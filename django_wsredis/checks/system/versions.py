"""What is installed, against what this package names in its metadata as known to work together."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

from ..findings import Problem, Row, skipped

PACKAGE = "django-wsredis"
NEEDED = {  # by the names that pip knows
    "django": "Django",
    "gevent": "gevent",
    "greenlet": "greenlet",
    "redis": "redis-py",
    "hiredis": "hiredis",
    "websockets": "websockets",
}
# hiredis comes with the extra of redis that we name; how old gevent's greenlet may be, gevent says
ALSO_NAMED_BY = {"greenlet": "gevent", "hiredis": "redis"}

TITLES = {
    "wsredis.E557": "A package that is needed is missing, or too old.",
    "wsredis.W558": "A package is newer than those that are known to work.",
    "wsredis.I559": "This version of Python is none of those that are tested.",
}

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*\(?(?P<clauses>[^;)]*)")
_CLAUSE = re.compile(r"(>=|<=|==|!=|~=|>|<)\s*([0-9][0-9.]*)")


class Range(NamedTuple):
    """Versions from the first on, and below the last; as text, "" for no limit. So they are named in metadata."""

    first: str = ""
    below: str = ""

    def __str__(self) -> str:
        parts = [f">={self.first}" if self.first else "", f"<{self.below}" if self.below else ""]
        return ",".join(filter(None, parts)) or "any"


def look() -> Iterator[Row]:
    """Look at Python, and at each package."""
    try:
        own = metadata.metadata(PACKAGE)
    except metadata.PackageNotFoundError:
        yield skipped("versions", f"{PACKAGE} is not installed, so it has no metadata")
        return
    yield _python(own.get_all("Classifier") or [])
    for name in NEEDED:
        yield _package(name)


def _python(classifiers: list[str]) -> Row:
    minor = ".".join(platform.python_version_tuple()[:2])
    prefix = "Programming Language :: Python :: "
    tested = [line.removeprefix(prefix) for line in classifiers if re.fullmatch(rf"{prefix}\d+\.\d+", line)]
    found = f"{platform.python_version()}; tested: {', '.join(tested)}"
    if minor in tested:
        return Row(checked="Python", found=found)
    problem = Problem(
        id="wsredis.I559",
        text=f"Python {platform.python_version()} runs here; this package is tested with {', '.join(tested)}.",
        hint=f"See whether there is a newer one: pip install -U {PACKAGE}",
    )
    return Row(checked="Python", found=found, problems=(problem,))


def _package(name: str) -> Row:
    ranges = [_range(who, name) for who in filter(None, (PACKAGE, ALSO_NAMED_BY.get(name)))]
    wanted = Range(max((r.first for r in ranges), key=_key), next((r.below for r in ranges if r.below), ""))
    hint = f"pip install '{name}{'' if str(wanted) == 'any' else wanted}'"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        text = f"{name} is not installed; {PACKAGE} needs {name} {wanted}."
        return Row(checked=NEEDED[name], found="none", problems=(Problem(id="wsredis.E557", text=text, hint=hint),))
    problems: tuple[Problem, ...] = ()
    if _key(version) < _key(wanted.first):
        text = f"{name} is {version}, and {wanted} is needed."
        problems = (Problem(id="wsredis.E557", text=text, hint=hint),)
    elif wanted.below and _key(version) >= _key(wanted.below):
        text = f"{name} is {version}; known to work is {wanted}."
        problems = (Problem(id="wsredis.W558", text=text, hint=hint),)
    return Row(checked=NEEDED[name], found=f"{version}; {wanted}", problems=problems)


def _range(who: str, name: str) -> Range:
    """Return which versions of a package another one needs."""
    try:
        requirements = metadata.requires(who) or []
    except metadata.PackageNotFoundError:
        return Range()
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match and match["name"].lower() == name:
            clauses = dict(_CLAUSE.findall(match["clauses"]))
            return Range(clauses.get(">=", ""), clauses.get("<", ""))
    return Range()


def _key(version: str) -> tuple[int, ...]:
    """Return a version's numbers, to compare it; of "25.9.0rc1" those in front, without zeros at the end."""
    match = re.match(r"[0-9]+(\.[0-9]+)*", version)
    numbers = [int(number) for number in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
