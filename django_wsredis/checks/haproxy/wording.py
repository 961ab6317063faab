"""Lines of HAProxy's configuration for people: without what may be a secret, as values of headers may. Pure."""

from __future__ import annotations

import re

from .reading import Line
from .routing import condition_of

# of these a condition's values are shown
OPEN_FETCHES = re.compile(
    r"!*(?:path(?:_[a-z]+)?|method|src|dst|dst_port|ssl_fc|(?:req\.)?f?hdr(?:_[a-z]+)?\(host\))(?:,lower)*", re.I
)
OPEN_HEADERS = ("host", "upgrade", "connection")
OPEN_ACTIONS = ("set-path", "replace-path")


def text_of(line: Line) -> str:
    """Return a line without the values that are not needed to understand it: `…` stands for those."""
    words, condition = condition_of(line)
    return " ".join([*_statement(words), *_condition(condition)])


def _statement(words: list[str]) -> list[str]:
    is_open = words[0] in ("use_backend", "default_backend") or words[1:2] in [[name] for name in OPEN_ACTIONS]
    if is_open or (len(words) > 2 and words[2].lower() in OPEN_HEADERS) or len(words) < 3:
        return words
    is_header = "header" in words[1] and len(words) > 3
    return [*words[: 3 if is_header else 2], "…"]


def _condition(words: list[str]) -> list[str]:
    shown: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        shown.append(word)
        if word.lstrip("!") == "{":
            end = rest.index("}") if "}" in rest else len(rest)
            shown += _criterion(rest[:end])
            rest = rest[end:]
    return shown


def _criterion(words: list[str]) -> list[str]:
    """Return what stands in braces: `hdr(x-secret) -m str …`."""
    if not words or OPEN_FETCHES.fullmatch(words[0]):
        return words
    shown = [_name(words[0])]
    rest = words[1:]
    while rest and re.fullmatch("-[a-zA-Z]", rest[0]):
        count = 2 if rest[0] == "-m" else 1
        shown += rest[:count]
        rest = rest[count:]
    return [*shown, "…"] if rest else shown


def _name(fetch: str) -> str:
    """Return a fetch with the name of its header, and without other arguments, and what is made of it."""
    match = re.match(r"(!*(?:[\w.]*hdr\w*|[\w.]*cook\w*)\([\w-]+\)|!*[\w.]+)(.*)", fetch)
    return match[1] + ("…" if match[2] else "") if match else "…"
