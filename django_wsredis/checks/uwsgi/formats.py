"""The kinds of files that uWSGI reads: each yields (number of a line, option, value) for each option. Pure.

Each raises ValueError for a text that is not of its kind.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

USUAL_SECTION = "uwsgi"


def parse_ini(text: str, section: str) -> Iterator[tuple[int, str, str]]:
    """Read the lines of a section. Not as configparser does it."""
    current = ""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(" \t\r")
        if line.startswith("["):
            current = line[1:-1]
        elif line and line[0] not in ";#" and current == section:
            name, _, value = line.partition("=")
            yield number, name.rstrip(" \t\r"), value.lstrip(" \t\r")


def parse_yaml(text: str, section: str) -> Iterator[tuple[int, str, str]]:
    """Read a mapping of scalars, and of lists of them, which is all that uWSGI takes."""
    is_inside, name = False, ""
    for number, line in enumerate(text.split("\n"), 1):
        stripped = re.sub(r"(^|\s)#.*", "", line).strip()
        if not stripped:
            continue
        if not line[0].isspace() and not stripped.startswith("-"):
            is_inside = stripped == f"{section}:"
        elif is_inside and (match := re.fullmatch(r"-\s+(.*)", stripped)):
            yield number, name, _scalar(match[1])
        elif is_inside and (match := re.fullmatch(r"([\w-]+)\s*:(?:\s+(.*))?", stripped)):
            name, value = match[1], match[2] or ""
            for item in value[1:-1].split(",") if value.startswith("[") else [value] if value else []:
                yield number, name, _scalar(item)


def _scalar(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def parse_json(text: str, section: str) -> Iterator[tuple[int, str, str]]:
    """Read an object of scalars, and of lists of them."""
    try:
        root = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    found = root.get(section) if isinstance(root, dict) else None
    for name, value in found.items() if isinstance(found, dict) else ():
        match = re.search(rf"{re.escape(json.dumps(name))}\s*:", text)
        number = text.count("\n", 0, match.start()) + 1 if match else 1
        for item in value if isinstance(value, list) else [value]:
            if (word := _json_scalar(item)) is not None:
                yield number, name, word


def _json_scalar(value: Any) -> str | None:
    if value is None or isinstance(value, bool):
        return "1" if value else "0"
    return str(value) if isinstance(value, (int, str)) else None


def parse_xml(text: str, section: str) -> Iterator[tuple[int, str, str]]:
    """Read the elements in <uwsgi>, which is the root or in it. section: its `id`, but for the usual one."""
    wanted = "" if section == USUAL_SECTION else section
    root, lines = _tree(text)
    places = [root] if root.tag == "uwsgi" else [each for each in root if each.tag == "uwsgi" and _fits(each, wanted)]
    for option in places[0] if places else ():
        if _fits(option, wanted):
            yield lines[option], option.tag, option.text or "1"


def _tree(text: str) -> tuple[Element, dict[Element, int]]:
    """Return the root, and the line of each element, which xml.etree alone does not know."""
    lines: dict[Element, int] = {}
    builder, parser = TreeBuilder(), expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        lines[builder.start(name, attributes)] = parser.CurrentLineNumber

    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise ValueError(str(error)) from None
    return builder.close(), lines


def _fits(element: Element, wanted: str) -> bool:
    return not wanted or element.get("id", wanted) == wanted


FORMATS = {
    "ini": parse_ini,
    "yaml": parse_yaml,
    "yml": parse_yaml,
    "json": parse_json,
    "js": parse_json,
    "xml": parse_xml,
}
