"""A page of another site, whose visitor's cookies a browser sends along: it must be refused (RFC 6455, 10.2)."""

from __future__ import annotations

from ..findings import Problem, Row, skipped
from . import target
from .answers import ask_upgrade
from .hints import ORIGIN
from .way import Way, seen

FOREIGN = "https://wscheck.invalid"


def look(way: Way) -> Row:
    """Ask for a websocket as such a page does."""
    answer = ask_upgrade(way, target.url_path(way), FOREIGN)
    if answer.status == 403:
        return seen(f"refused: {answer.shown}")
    if answer.status != 101:
        return skipped("foreign Origin", f"refused, but not by the site's 403: {answer.shown}")
    problem = Problem(
        id="wsredis.E634",
        text=f"Origin: a page of {FOREIGN} may connect, with the session of its visitor.",
        hint=f"{ORIGIN}\nAnd in the settings: WSREDIS = {{'REQUIRE_ORIGIN': True, …}}",
    )
    return seen("accepted", problem)
