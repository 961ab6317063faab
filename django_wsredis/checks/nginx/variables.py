"""What NGiNX's variables are for one request, as far as that can be known; and its times."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from .reading import Directive

NAMED = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
TIME = re.compile(r"(\d+)(ms|[smhdwMy]?)")
UNIT_SECONDS = {
    "ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 2592000, "y": 31536000
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The handshake of a browser. port: where NGiNX takes it, 0 for a unix socket."""

    host: str
    port: int
    has_tls: bool
    uri: str

    @property
    def scheme(self) -> str:
        return "https" if self.has_tls else "http"

    @property
    def http_host(self) -> str:
        """The browser's Host: with the port, unless it is the scheme's own."""
        is_usual = self.port in (0, 443 if self.has_tls else 80)
        return self.host if is_usual else f"{self.host}:{self.port}"

    @property
    def shown(self) -> str:
        """The URL, for people."""
        return f"{'wss' if self.has_tls else 'ws'}://{self.http_host}{self.uri}"


@dataclass(slots=True)
class Variables:
    """Looks them up for one request; `values` also gets what `set` sets."""

    http: Directive
    values: dict[str, str] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)  # those of maps that are being looked up: NGiNX allows no cycle

    def expand(self, text: str) -> str | None:
        """Return a text with its variables filled in; None if one is not known."""
        found = [self.value(match[1] or match[2]) for match in NAMED.finditer(text)]
        if any(value is None for value in found):
            return None
        values = iter(found)
        return NAMED.sub(lambda _: next(values) or "", text)

    def value(self, name: str) -> str | None:
        """Return a variable's value, None if it is not known."""
        if name in self.values:
            return self.values[name]
        if name.startswith(("http_", "arg_", "cookie_")):  # what the handshake does not have
            return ""
        for directive in self.http.all("map"):
            if len(directive.args) == 2 and directive.args[1] == f"${name}" and name not in self.pending:
                self.pending.add(name)
                try:
                    return self._mapped(directive)
                finally:
                    self.pending.discard(name)
        return None

    def is_defined(self, name: str) -> bool:
        """Tell whether a directive defines a variable."""
        return any(
            f"${name}" in directive.args for directive in self.http.walk() if directive.name != "proxy_set_header"
        )

    def _mapped(self, directive: Directive) -> str | None:
        """Return what a `map` makes of its source: exact values come first, then expressions, then the default."""
        source = self.expand(directive.args[0])
        if source is None:
            return None
        default = ""
        expression = None
        for entry in directive.block or ():
            key, value = entry.name, entry.args[0] if entry.args else ""
            if key == "default":
                default = value
            elif key.startswith("~"):
                if expression is None and matches(key.lstrip("~*"), source, is_caseless=key.startswith("~*")):
                    expression = value
            elif key.removeprefix("\\").lower() == source.lower():
                return self.expand(value)
        return self.expand(default if expression is None else expression)


def variables(http: Directive, request: Request) -> Variables:
    """Return the variables of a browser's handshake."""
    path, _, query = request.uri.partition("?")
    return Variables(http, {
        "scheme": request.scheme,
        "https": "on" if request.has_tls else "",
        "host": request.host,
        "http_host": request.http_host,
        "request_port": request.http_host.removeprefix(request.host).removeprefix(":"),
        "is_request_port": ":" if request.http_host != request.host else "",
        "server_port": str(request.port),
        "server_protocol": "HTTP/1.1",
        "request_method": "GET",
        "request_uri": request.uri,
        "uri": path,
        "document_uri": path,
        "args": query,
        "query_string": query,
        "is_args": "?" if query else "",
        "http_upgrade": "websocket",
        "http_connection": "Upgrade",
        "http_origin": f"{request.scheme}://{request.http_host}",
        "http_sec_websocket_version": "13",
        "http_sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==",  # RFC 6455, 1.3
        "http_cookie": "sessionid=0",
    })  # fmt: skip


def search(pattern: str, text: str, *, is_caseless: bool = False) -> re.Match[str] | None:
    """Search as PCRE does. Raises re.error for what Python's expressions do not have."""
    return re.search(re.sub(r"\(\?<(?=[A-Za-z_])", "(?P<", pattern), text, re.I if is_caseless else 0)


def matches(pattern: str, text: str, *, is_caseless: bool = False) -> bool:
    """Tell whether a pattern is found; one that Python cannot read is not."""
    try:
        return search(pattern, text, is_caseless=is_caseless) is not None
    except re.error:
        return False


def seconds(text: str) -> float | None:
    """Return the seconds of a time as `1m30s` or `500ms`, None for what is none."""
    if not re.fullmatch(rf"(?:{TIME.pattern}\s*)+", text):
        return None
    return sum(int(number) * UNIT_SECONDS[unit] for number, unit in TIME.findall(text))


def inherited(chain: Iterable[Directive], *names: str) -> list[Directive]:
    """Return the directives of some names that hold in the innermost block of a chain.

    NGiNX inherits all from the block outside, or nothing: one in an inner block drops all of the outer ones.
    """
    for block in reversed(tuple(chain)):
        if found := block.all(*names):
            return found
    return []


def setting(chain: Iterable[Directive], name: str, default: str) -> tuple[str, Directive | None]:
    """Return the first argument of a directive that holds, and where it stands; the default with None."""
    found = inherited(chain, name)
    return (found[-1].args[0], found[-1]) if found and found[-1].args else (default, None)
