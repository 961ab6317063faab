"""Where Apache sends a websocket: its rules in the order in which Apache itself tries them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch

from .reading import Directive

# what RewriteCond may ask of a handshake → what it is told
HANDSHAKE = {"http:upgrade": "websocket", "http:connection": "Upgrade", "request_method": "GET"}
TRUTHS = ("On", "on", "ON")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that takes a path. target: where the path is sent, with the path; "" if nowhere: then it is no proxy's.

    is_certain: whether it does; if not, it depends on what is not known here.
    """

    directive: Directive
    target: str
    parameters: dict[str, str] = field(default_factory=dict)
    is_redirect: bool = False
    is_certain: bool = True

    @property
    def scheme(self) -> str:
        """http, https, ws, wss, balancer…"""
        return self.url.partition("://")[0] if "://" in self.url else ""

    @property
    def url(self) -> str:
        """The target without the path of a unix socket."""
        return self.target.partition("|")[2] or self.target

    @property
    def path(self) -> str:
        """The path that arrives."""
        return "/" + rest if (rest := self.url.partition("://")[2].partition("?")[0].partition("/")[2]) else ""

    @property
    def text(self) -> str:
        """The directive, for people: without passwords."""
        return shown(" ".join([NAMES.get(self.directive.name, self.directive.name), *self.directive.words]))


def shown(text: str) -> str:
    """Return a text of a configuration for people: without passwords, and what is set as a variable or a cookie."""
    text = re.sub(r"//[^/@\s]*@", "//…@", text)
    text = re.sub(r"\bsecret=\S+", "secret=…", text)
    return re.sub(r"(?<=[\[,])(E|env|CO|cookie)=[^,\]]*", r"\1=…", text, flags=re.I)


NAMES = {
    "proxypass": "ProxyPass",
    "proxypassmatch": "ProxyPassMatch",
    "rewriterule": "RewriteRule",
    "redirect": "Redirect",
}


def rules(server: Directive, host: Directive, path: str) -> Iterator[Rule]:
    """Yield the rules that take a path, the first one first.

    mod_rewrite is asked before mod_proxy; that takes those in a <Location>, then those of the server before the host's.
    """
    yield from _rewrites(host, path)
    for directive in host.all("redirect", "redirectpermanent"):
        words = [word for word in directive.words if word.startswith(("/", "http"))]
        if len(words) > 1 and words[0].startswith("/") and path.startswith(words[0]):
            yield Rule(directive, "", is_redirect=True)
    for location in host.all("location", "locationmatch")[::-1]:  # the last one counts
        regex = location.name == "locationmatch" or location.value == "~"
        wanted = location.words[-1] if location.words else ""
        for directive in location.all("proxypass", "proxypassmatch"):
            yield from _proxy(directive, ["^" + wanted.lstrip("^") if regex else wanted, *directive.words], path, regex)
    places = (server, host) if host is not server else (host,)
    for directive in (directive for place in places for directive in place.all("proxypass", "proxypassmatch")):
        yield from _proxy(directive, directive.words, path, directive.name == "proxypassmatch")


def _proxy(directive: Directive, words: list[str], path: str, is_regex: bool) -> Iterator[Rule]:
    words = [word for word in words if word not in ("interpolate", "nocanon", "noquery")]
    if len(words) < 2:
        return
    wanted, url, *rest = words
    parameters = dict(word.partition("=")[::2] for word in rest)
    if is_regex:
        match = _search(wanted, path)
        mapped = _fill(url, match) if "$" in url else url + path
        if match is not None:
            yield Rule(directive, "" if url == "!" else mapped, parameters)
    elif _is_below(path, wanted):
        yield Rule(directive, "" if url == "!" else url + path[len(wanted) :], parameters)


def _is_below(path: str, prefix: str) -> bool:
    """Tell whether mod_proxy's matching takes a path: /ws takes /ws/x, and not /wsx."""
    return path == prefix or (path.startswith(prefix) and (prefix.endswith("/") or path[len(prefix)] == "/"))


def concerns(section: Directive, path: str) -> bool:
    """Tell whether a <Location> or a <LocationMatch> is for a path."""
    wanted = section.words[-1] if section.words else ""
    if section.name == "locationmatch" or section.value == "~":
        return _search(wanted, path) is not None
    return _is_below(path, wanted) or fnmatch(path, wanted)


def _rewrites(host: Directive, path: str) -> Iterator[Rule]:
    engine = host.get("rewriteengine")
    if engine is None or engine.value not in TRUTHS:
        return
    conditions: list[Directive] = []
    is_reached = True  # False: whether a rule is reached depends on one before it
    for directive in host.all("rewritecond", "rewriterule"):
        if directive.name == "rewritecond":
            conditions.append(directive)
            continue
        truth, conditions = _all_hold(conditions, path), []
        if len(directive.words) < 2 or truth is False:
            continue
        pattern, target, *_ = directive.words
        flags = _flags(directive)
        match = _search(pattern.removeprefix("!"), path, bool(flags & {"NC", "NOCASE"}))
        if (match is None) != pattern.startswith("!"):
            continue
        is_certain = truth is True and is_reached
        is_redirect = bool(flags & {"R", "REDIRECT"})
        if flags & {"F", "FORBIDDEN", "G", "GONE"}:
            yield Rule(directive, "", is_certain=is_certain)
        elif flags & {"P", "PROXY"} or is_redirect:
            filled = _fill(target.replace("%{REQUEST_URI}", path), match)
            yield Rule(directive, filled, is_redirect=is_redirect, is_certain=is_certain)
        elif flags & {"L", "LAST", "END"} and is_certain:
            return
        elif flags & {"L", "LAST", "END", "C", "CHAIN", "S", "SKIP", "N", "NEXT"}:
            is_reached = False


def _flags(directive: Directive) -> set[str]:
    """Return the flags of a RewriteRule or a RewriteCond, without their values."""
    return {flag.partition("=")[0].upper() for flag in "".join(directive.words[2:]).strip("[]").split(",")}


def _all_hold(conditions: list[Directive], path: str) -> bool | None:
    """Tell whether a rule's conditions are true: each, or one of those that [OR] joins; None if that is not known."""
    truths: list[bool | None] = []
    is_joined = False
    for condition in conditions:
        truth = _holds(condition, path)
        if is_joined:
            before = truths.pop()
            truth = True if True in (before, truth) else None if None in (before, truth) else False
        truths.append(truth)
        is_joined = bool(_flags(condition) & {"OR", "ORNEXT"})
    return False if False in truths else None if None in truths else True


def _holds(condition: Directive, path: str) -> bool | None:
    """Tell whether a RewriteCond is true of a handshake; None if that is not known."""
    match = re.fullmatch(r"%\{([\w:-]+)\}", condition.value)
    if match is None or len(condition.words) < 2:
        return None
    value = {**HANDSHAKE, "request_uri": path}.get(match[1].lower())
    pattern = condition.words[1].removeprefix("!")
    if value is None or pattern[:1] in ("<", ">", "-"):
        return None
    is_caseless = bool(_flags(condition) & {"NC", "NOCASE"})
    if pattern.startswith("="):  # is the same, not a regular expression
        wanted = pattern[1:] if pattern != '=""' else ""
        is_there = value.lower() == wanted.lower() if is_caseless else value == wanted
    else:
        is_there = _search(pattern, value, is_caseless) is not None
    return is_there != condition.words[1].startswith("!")


def _search(pattern: str, text: str, is_caseless: bool = False) -> re.Match[str] | None:
    try:
        return re.search(pattern, text, re.I if is_caseless else 0)
    except re.error:  # PCRE knows more than Python
        return None


def _fill(target: str, match: re.Match[str] | None) -> str:
    """Put what a pattern's groups matched for $1 and so on."""
    if match is None:
        return target
    groups = [match[0], *(group or "" for group in match.groups())]
    return re.sub(r"\$(\d)", lambda found: groups[int(found[1])] if int(found[1]) < len(groups) else "", target)
