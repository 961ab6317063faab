"""Which location of a server a URI reaches: exact, then the longest prefix, unless an expression comes first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .reading import Directive
from .variables import search

Chain = tuple[Directive, ...]  # blocks, each in the one before: http, server, location, a location inside it

MODIFIERS = ("=", "^~", "~*", "~")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a location is for. modifier: one of MODIFIERS, "@" for a named one, "" for a plain prefix."""

    modifier: str
    name: str

    @property
    def is_expression(self) -> bool:
        return self.modifier in ("~", "~*")

    @property
    def is_prefix(self) -> bool:
        return self.modifier in ("", "^~")

    def matches(self, uri: str) -> bool:
        """Tell whether a location is for a URI. Raises re.error for an expression that Python cannot read."""
        if self.is_expression:
            return search(self.name, uri, is_caseless=self.modifier == "~*") is not None
        return uri == self.name if self.modifier == "=" else self.is_prefix and uri.startswith(self.name)


def scope(location: Directive) -> Scope:
    """Return what a location is for; the modifier may stand apart, or at the name."""
    if len(location.args) > 1:
        return Scope(location.args[0], location.args[1])
    text = location.args[0] if location.args else ""
    if text.startswith("@"):
        return Scope("@", text)
    modifier = next((modifier for modifier in MODIFIERS if text.startswith(modifier)), "")
    return Scope(modifier, text.removeprefix(modifier))


def find(chain: Chain, uri: str) -> Chain:
    """Return the blocks down to the location for a URI; the chain itself if there is none.

    As ngx_http_core_find_location(): the locations inside the longest prefix are looked at before the expressions
    beside it, which `^~` leaves out. An expression that cannot be read matches nothing, see `unreadable()`.
    """
    return _find(chain, uri)[0]


def named(chain: Chain, name: str) -> Chain | None:
    """Return the blocks down to a named location of the server, `@site`, which no URI reaches."""
    http, server, *_ = chain
    return next(((http, server, location) for location in server.all("location") if scope(location).name == name), None)


def unreadable(server: Directive) -> Iterator[Directive]:
    """Yield the locations whose expressions Python cannot read."""
    for location in server.walk():
        if location.name == "location" and (found := scope(location)).is_expression:
            try:
                found.matches("/")
            except re.error:
                yield location


def _find(chain: Chain, uri: str) -> tuple[Chain, bool]:
    """Return the blocks, and whether no expression further out may replace the last one."""
    locations = [(location, scope(location)) for location in chain[-1].all("location")]
    for location, found in locations:
        if found.modifier == "=" and found.matches(uri):
            return (*chain, location), True
    reached, is_final, has_expressions = chain, False, True
    prefixes = [(location, found) for location, found in locations if found.is_prefix and found.matches(uri)]
    if prefixes:
        location, found = max(prefixes, key=lambda pair: len(pair[1].name))
        has_expressions = found.modifier != "^~"
        reached, is_final = _find((*chain, location), uri)
    if is_final or not has_expressions:
        return reached, is_final
    for location, found in locations:
        if found.is_expression and _matches(found, uri):
            return _find((*chain, location), uri)[0], True
    return reached, False


def _matches(found: Scope, uri: str) -> bool:
    try:
        return found.matches(uri)
    except re.error:
        return False
