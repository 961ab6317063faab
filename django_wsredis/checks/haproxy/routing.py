"""Where HAProxy sends a websocket's handshake, and as what path: its conditions and its rewriting. Pure.

What a condition asks may not be known here; then it is neither true nor false, but None.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .reading import Line, Section

TRUE = {"TRUE", "always_true", "HTTP", "HTTP_1.1", "METH_GET"}
FALSE = {"FALSE", "always_false", "METH_POST", "METH_HEAD", "METH_CONNECT", "HTTP_1.0", "HTTP_2.0"}
SUFFIXES = {"beg", "end", "sub", "reg", "dir", "dom"}


@dataclass(frozen=True, slots=True)
class Handshake:
    """A websocket's request, as it comes to a section.

    hosts: those that it may be for, `.example.com` for any below that domain; none: any. has_tls: whether it comes by
    TLS.
    """

    path: str
    hosts: Sequence[str] = ()
    has_tls: bool = False
    headers: dict[str, str] = field(default_factory=lambda: {"upgrade": "websocket", "connection": "Upgrade"})


@dataclass(frozen=True, slots=True)
class Change:
    """What a section makes of a path. path: None if that is not known. line: the last one that changes it."""

    path: str | None
    line: Line | None


def condition_of(line: Line) -> tuple[list[str], list[str]]:
    """Return the words of a line before its condition, and the condition with its `if` or `unless`."""
    for index, word in enumerate(line.words):
        if word in ("if", "unless"):
            return line.words[:index], line.words[index:]
    return line.words, []


def holds(section: Section, line: Line, request: Handshake) -> bool | None:
    """Tell whether a line's condition is true of a handshake."""
    _, condition = condition_of(line)
    if not condition:
        return True
    found = _any([_all(section, terms, request) for terms in _alternatives(condition[1:])])
    return found if condition[0] == "if" or found is None else not found


def _alternatives(words: list[str]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for word in words:
        if word in ("||", "or"):
            found.append([])
        else:
            found[-1].append(word)
    return found


def _all(section: Section, words: list[str], request: Handshake) -> bool | None:
    results: list[bool | None] = []
    rest, is_negated = list(words), False
    while rest:
        word = rest.pop(0)
        while word.startswith("!"):
            is_negated, word = not is_negated, word[1:]
        if not word:
            continue
        if word == "{":
            end = rest.index("}") if "}" in rest else len(rest)
            result, rest = _test(section, rest[:end], request), rest[end + 1 :]
        else:
            result = _named(section, word, request)
        results.append(result if result is None else result != is_negated)
        is_negated = False
    return False if False in results else None if None in results else True


def _any(results: list[bool | None]) -> bool | None:
    return True if True in results else None if None in results else False


def _named(section: Section, name: str, request: Handshake) -> bool | None:
    lines = section.all("acl", name)
    if not lines:
        return True if name in TRUE else False if name in FALSE else None
    return _any([_test(section, line.words[2:], request) for line in lines])


def _test(section: Section, words: list[str], request: Handshake) -> bool | None:
    """Tell whether a criterion, such as `path_beg -i /ws/`, is true."""
    if not words:
        return None
    fetch, *rest = words
    if fetch in TRUE | FALSE:
        return fetch in TRUE
    if section.mode != "http":
        return False  # there is no request yet
    if fetch == "ssl_fc":
        return request.has_tls
    texts, suffix = _sample(fetch, request)
    if texts is None:
        return None
    is_caseless, values, flags = False, [], iter(rest)
    for word in flags:
        if word == "-i":
            is_caseless = True
        elif word == "-m":
            suffix = next(flags, "")
        elif word in ("-f", "-M", "-n", "-u"):
            return None
        elif word != "--":
            values.append(word)
    if suffix == "found":
        return bool(texts)
    return _any([_matches(text, value, suffix, is_caseless) for text in texts for value in values])


def _sample(fetch: str, request: Handshake) -> tuple[list[str] | None, str]:
    """Return what a fetch gives, None if that is not known; and how it is to be compared, "" for equality."""
    match = re.fullmatch(r"(?:req\.)?([a-z]+?)(?:_([a-z]+))?(?:\(([\w-]+)(?:,-?\d+)?\))?((?:,lower)*)", fetch)
    if match is None or (match[2] and match[2] not in SUFFIXES):
        return None, ""
    name, suffix, header = match[1], match[2] or "", (match[3] or "").lower()
    if name in ("path", "pathq", "url", "uri"):
        return [request.path], suffix
    if name == "method":
        return ["GET"], suffix
    if name in ("hdr", "fhdr", "hdrs"):
        if header == "host":
            return (list(request.hosts) or None), suffix
        return ([request.headers[header]] if header in request.headers else None), suffix
    return None, ""


def _matches(text: str, value: str, suffix: str, is_caseless: bool) -> bool | None:
    if text.startswith("."):
        return _matches_below(text, value.lower() if is_caseless else value, suffix)
    if suffix == "reg":
        try:
            return re.search(value, text, re.I if is_caseless else 0) is not None
        except re.error:  # PCRE knows more than Python
            return False
    if is_caseless:
        text, value = text.lower(), value.lower()
    match suffix:
        case "beg":
            return text.startswith(value)
        case "end":
            return text.endswith(value)
        case "sub":
            return value in text
        case "dir":
            return f"/{value.strip('/')}/" in f"{text}/"
        case "dom":
            return f".{value.strip('.')}." in f".{text}."
    return text == value


def _matches_below(domain: str, value: str, suffix: str) -> bool | None:
    """Tell whether all hosts below a domain match; None if some may."""
    match suffix:
        case "":
            return None if value.endswith(domain) else False
        case "end":
            return True if domain.endswith(value) else None if value.endswith(domain) else False
        case "sub":
            return value in domain or None
        case "dom":
            return f".{value.strip('.')}." in f"{domain}." or None
    return None


def rewrite(section: Section, request: Handshake) -> Change:
    """Return what a section's http-request lines make of the path."""
    path: str | None = request.path
    changed: Line | None = None
    for line in section.all("http-request"):
        words, _ = condition_of(line)
        action = words[1] if len(words) > 1 else ""
        if action not in ("set-path", "set-pathq", "set-uri", "replace-path", "replace-pathq", "replace-uri"):
            continue
        truth = holds(section, line, request)
        if truth is False or path is None:
            continue
        before, path = path, _rewritten(action, words[2:], path) if truth else None
        if path != before:
            changed = line
    return Change(path, changed)


def _rewritten(action: str, words: list[str], path: str) -> str | None:
    try:
        if action.startswith("replace-") and len(words) > 1:
            match = re.search(words[0], path)
            return path if match is None else path[: match.start()] + _fill(words[1], match) + path[match.end() :]
        value = words[0] if words else ""
        if found := re.fullmatch(r"%\[path,regsub\((.+?),(.*?)(?:,\w*)?\)\]", value):
            return re.sub(found[1].strip("'\""), found[2].strip("'\""), path, count=1)
    except re.error:  # PCRE knows more than Python
        return None
    return value.replace("%[path]", path) if "%" not in value.replace("%[path]", "") else None


def _fill(target: str, match: re.Match[str]) -> str:
    groups = [match[0], *(group or "" for group in match.groups())]
    return re.sub(r"\\(\d)", lambda found: groups[int(found[1])] if int(found[1]) < len(groups) else "", target)
