"""Where Apache sends a websocket: its rules in the order in which Apache itself tries them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from .reading import Directive

# what RewriteCond may ask of a handshake → what it is told
HANDSHAKE = {"HTTP:Upgrade": "websocket", "HTTP:Connection": "Upgrade", "REQUEST_METHOD": "GET"}
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
        words = " ".join([NAMES.get(self.directive.name, self.directive.name), *self.directive.words])
        return re.sub(r"secret=\S+", "secret=…", re.sub(r"//[^/@\s]*@", "//…@", words))


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


def _rewrites(host: Directive, path: str) -> Iterator[Rule]:
    engine = host.get("rewriteengine")
    if engine is None or engine.value not in TRUTHS:
        return
    conditions: list[Directive] = []
    for directive in host.all("rewritecond", "rewriterule"):
        if directive.name == "rewritecond":
            conditions.append(directive)
            continue
        truths, conditions = [_holds(condition, path) for condition in conditions], []
        if len(directive.words) < 2 or False in truths:
            continue
        pattern, target, *flags = directive.words
        match = _search(pattern, path)
        given = {flag.partition("=")[0] for flag in "".join(flags).strip("[]").split(",")}
        is_redirect = bool(given & {"R", "redirect"})
        if match is None or not (given & {"P", "proxy"} or is_redirect):
            continue
        target = _fill(target.replace("%{REQUEST_URI}", path), match)
        yield Rule(directive, target, is_redirect=is_redirect, is_certain=None not in truths)


def _holds(condition: Directive, path: str) -> bool | None:
    """Tell whether a RewriteCond is true of a handshake; None if that is not known."""
    match = re.fullmatch(r"%\{([\w:-]+)\}", condition.value)
    if match is None or len(condition.words) < 2:
        return None
    value = {**HANDSHAKE, "REQUEST_URI": path}.get(match[1])
    pattern = condition.words[1]
    if value is None or pattern.lstrip("!")[:1] in ("=", "<", ">", "-"):
        return None
    is_there = _search(pattern.removeprefix("!"), value, "NC" in "".join(condition.words[2:])) is not None
    return is_there != pattern.startswith("!")


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
