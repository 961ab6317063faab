"""The way of a request through one server: what rewrites it, which location gets it, what passes it on or answers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from .locations import Chain, find, named
from .reading import Directive
from .variables import Request, Variables, inherited, search, variables

MAX_CYCLES = 10  # of rewriting, as NGiNX has it; then it answers 500
REDIRECTS = ("301", "302", "303", "307", "308")
PASSES = ("proxy_pass", "uwsgi_pass")
OTHER_PASSES = ("fastcgi_pass", "scgi_pass", "grpc_pass", "memcached_pass")
SCRIPT = ("rewrite", "return", "set", "if", "break")  # NGiNX runs them in their order


@dataclass(slots=True)
class Route:
    """Where one request ends.

    chain: the blocks down to its location. uri: what the request's has become. rewriting: what changed it on the way.
    stop: what answers it before a location can pass it on. doubtful: each `if` of which nobody knows whether it holds.
    """

    request: Request
    chain: Chain
    variables: Variables
    uri: str
    stop: Directive | None = None
    rewriting: list[Directive] = field(default_factory=list)
    doubtful: list[Directive] = field(default_factory=list)

    @property
    def server(self) -> Directive:
        return self.chain[1]

    @property
    def location(self) -> Directive:
        """The innermost location; the server itself if there is none for the URI."""
        return next(block for block in reversed(self.chain) if block.name in ("location", "server"))

    @property
    def passing(self) -> Directive | None:
        """What passes the request on to the site. It is not inherited from the location outside."""
        if self.stop is not None:
            return None
        inside = self.chain[self.chain.index(self.location) :]
        return next((found[-1] for block in reversed(inside) if (found := block.all(*PASSES))), None)

    @property
    def redirects(self) -> bool:
        """Tell whether it is sent elsewhere; no websocket follows."""
        stop = self.stop
        if stop is None or stop.name != "return":
            return stop is not None and stop.name == "rewrite"
        return any(arg in REDIRECTS or not arg.isdigit() for arg in stop.args[:1])


def follow(http: Directive, server: Directive, request: Request) -> Route:
    """Return the way of a request that a server has got."""
    known = variables(http, request)
    route = Route(request=request, chain=(http, server), variables=known, uri=known.values["uri"])
    _run(route, server)
    start: Chain = (http, server)
    for _ in range(MAX_CYCLES):
        if route.stop is not None:
            break
        uri = route.uri
        route.chain = find(start, uri)
        internal = inherited(route.chain, "internal")
        if internal and not route.rewriting:
            route.stop = internal[0]
            break
        ended = _run(route, route.location) if route.location is not server else ""
        if route.stop is None and route.uri != uri and ended != "break":
            continue
        if not _try_files(route):
            break
    _turn_to_named(route)
    return route


def _turn_to_named(route: Route) -> None:
    """Go on in the named location that an `error_page` has for the status of a `return`."""
    stop = route.stop
    if stop is None or stop.name != "return" or len(stop.args) != 1:
        return
    for directive in inherited(route.chain, "error_page"):
        *codes, target = [arg for arg in directive.args if not arg.startswith("=")]
        named = [block for block in route.server.all("location") if block.args == (target,)]
        if stop.args[0] in codes and target.startswith("@") and named:
            route.stop = None
            route.chain = (*route.chain[:2], named[0])
            _run(route, named[0])
            return


def _run(route: Route, block: Directive) -> str:
    """Run the script of a block; return what ends it, "" if nothing does.

    After a `break` a changed URI stays in its location; otherwise one is looked for anew.
    """
    for directive in block.all(*SCRIPT):
        args = directive.args
        if directive.name == "break":
            return "break"
        if directive.name == "return":
            route.stop = directive
            return "return"
        if directive.name == "set" and len(args) == 2:
            _set(route, args[0].removeprefix("$"), args[1])
        elif directive.name == "rewrite" and len(args) > 1:
            if flag := _rewrite(route, directive):
                return flag
        elif directive.name == "if":
            held = holds(args, route.variables)
            if held is None:
                route.doubtful.append(directive)
            elif held:
                if block.name != "server":
                    route.chain = (*route.chain[: route.chain.index(block) + 1], directive)
                if ended := _run(route, directive):
                    return ended
    return ""


def _set(route: Route, name: str, text: str) -> None:
    value = route.variables.expand(text)
    if value is None:
        route.variables.values.pop(name, None)
    else:
        route.variables.values[name] = value


def _rewrite(route: Route, directive: Directive) -> str:
    """Rewrite the URI if the expression fits; return the flag that ends the script, "" for none."""
    pattern, replacement, *flags = directive.args
    try:
        match = search(pattern, route.uri)
    except re.error:
        route.doubtful.append(directive)
        return ""
    if match is None:
        return ""
    flag = flags[0] if flags else ""
    if flag in ("redirect", "permanent") or replacement.startswith(("http://", "https://", "$scheme")):
        route.stop = directive
        return flag or "redirect"
    groups = {str(number): text or "" for number, text in enumerate(match.groups(), 1)}
    known = replace(route.variables, values={**route.variables.values, **groups, **match.groupdict("")})
    changed = known.expand(replacement)
    if changed is None:
        route.doubtful.append(directive)
        return flag
    route.uri = changed.partition("?")[0]
    route.variables.values.update({"uri": route.uri, "document_uri": route.uri})
    route.rewriting.append(directive)
    return flag


def _try_files(route: Route) -> bool:
    """Do as `try_files` does where no file has the name; return whether there is another location to look for."""
    found = route.chain[-1].all("try_files")
    if route.stop is not None or not found or not found[-1].args:
        return False
    last = found[-1].args[-1]
    if last.startswith("@"):
        chain = named(route.chain, last)
        if chain is None:
            route.stop = found[-1]
            return False
        route.chain = chain
        _run(route, chain[-1])
        return False
    changed = None if last.startswith("=") else route.variables.expand(last)
    if changed is None or changed.partition("?")[0] == route.uri:
        route.stop = found[-1]
        return False
    route.uri = changed.partition("?")[0]
    route.variables.values.update({"uri": route.uri, "document_uri": route.uri})
    route.rewriting.append(found[-1])
    return True


def holds(args: tuple[str, ...], known: Variables) -> bool | None:
    """Tell whether the condition of an `if` holds for a websocket, of which there is no file; None if nobody knows."""
    if len(args) == 2 and args[0].lstrip("!") in ("-f", "-d", "-e", "-x"):
        return args[0].startswith("!")
    value = known.expand(args[0]) if args else None
    if value is None:
        return None
    if len(args) == 1:
        return value not in ("", "0")
    operator, wanted = args[1], " ".join(args[2:])
    if operator in ("=", "!="):
        compared = known.expand(wanted)
        return None if compared is None else (value == compared) is (operator == "=")
    if operator.lstrip("!") not in ("~", "~*"):
        return None
    try:
        found = search(wanted, value, is_caseless=operator.endswith("*")) is not None
    except re.error:
        return None
    return found is not operator.startswith("!")
