"""What it means that a handshake is not answered in time: who is silent, by whether the site's pages are answered."""

from __future__ import annotations

from http.client import HTTPException

from ..findings import Problem
from .answers import HTTPAnswer, ask
from .hints import PROTOCOLS, SITE_LOG
from .way import Way

PAGE = "/"
PAGE_SECONDS = 2.0  # that are waited for it: whoever is well answers in much less
NO_PAGE = (502, 503, 504)  # a proxy's answers, where the site gives none


def explain(way: Way, found: str) -> Problem:
    """Tell by the site's pages whether all of it is silent, or what takes its websockets alone."""
    page = _page(way)
    if page is None:
        text = f"Site or proxy: {found}; {PAGE} is not answered, either."
        hint = (
            "Look, in this order:\n"
            "1. Does the site answer without the proxy? On its machine: curl -i --max-time 5 http://127.0.0.1:8000/\n"
            "2. If it does, the proxy speaks another protocol with it than it speaks, and each waits for the other:\n"
            f"   {PROTOCOLS}\n"
            "3. If it does not, all of its workers are taken, or wait for the database: uwsgitop or the like.\n"
            f"   {SITE_LOG}"
        )
    else:
        text = f"Location: {found}, while {PAGE} is answered: {page.shown}."
        hint = (
            "So what takes websockets is at fault, and not the site as a whole. Look, in this order:\n"
            f"1. The location of WEBSOCKET_URL in the proxy: does it lead to whom that of {PAGE} leads to, in the same "
            "way?\n"
            f"   {PROTOCOLS}\n"
            "2. If websockets have a server of their own: does that answer?\n"
            f"   curl -i --max-time 5 http://127.0.0.1:8001{way.settings.websocket_url}-/healthz"
        )
    return Problem(id="wsredis.E623", text=text, hint=hint)


def _page(way: Way) -> HTTPAnswer | None:
    """Return the answer to a page at the same front door; None if no site answers."""
    try:
        answer = ask(way, PAGE, seconds=PAGE_SECONDS)
    except (OSError, HTTPException):
        return None
    return None if answer.status in NO_PAGE else answer
