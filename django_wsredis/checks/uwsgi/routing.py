"""The route by which a uWSGI that is used as a proxy passes websockets on."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...conf import Settings
from ..findings import Problem, Row, skipped
from ..kernel import ports_row
from .reading import Option, OptionList

ENDS = ("http", "static", "redirect", "break", "fastcgi", "scgi")  # actions that answer; others, but uwsgi:, go on
ADDRESS = "uwsgi:/run/site/websockets.sock,0,0"


def rows(conf: OptionList, settings: Settings, *, serves: bool) -> Iterator[Row]:
    """Look at the first route that takes a websocket.

    serves: whether it has an application, too, which gets what no route takes.
    """
    if not any(_action(rule) == "uwsgi" for rule in conf.options if rule.name.startswith("route")):
        return
    others = [rule for rule in conf.options if rule.name.startswith("route-") and rule.name != "route-uri"]
    if others:
        yield skipped("route", f"{others[0].place}: {others[0].name} is not understood here")
        return
    rules = conf.all("route", "route-uri")
    for rule in rules:
        pattern = rule.value.partition(" ")[0]
        try:
            takes = re.search(pattern, f"{settings.websocket_url}x") is not None
        except re.error as error:  # PCRE knows more than Python
            yield skipped("route", f"{pattern}: {error}")
            return
        if takes and _action(rule) == "uwsgi":
            yield Row(checked="route", found=rule.value)
            yield _offloading(conf, rule)
            address = rule.value.partition("uwsgi:")[2].partition(",")[0]
            yield ports_row(set() if address.startswith(("/", "@")) else {address}, settings.max_sockets, rule.place)
            return
        if takes and _action(rule) in ENDS:
            yield _wrong(
                f"route = {pattern} {_action(rule)}: takes websockets, and does not pass them on.", rule, pattern
            )
            return
    if not serves:
        pattern = f"^{settings.websocket_url}"
        yield _wrong(f"No route takes {settings.websocket_url}: every websocket gets 404.", rules[0], pattern)


def _action(rule: Option) -> str:
    """Return the name of what a route does; what follows that may be a password."""
    return rule.value.partition(" ")[2].strip().partition(":")[0]


def _wrong(text: str, rule: Option, pattern: str) -> Row:
    hint = f"route = {pattern} {ADDRESS}"
    problem = Problem(id="wsredis.E327", text=text, hint=hint, place=rule.place)
    return Row(checked="route", found="none for websockets", problems=(problem,))


def _offloading(conf: OptionList, rule: Option) -> Row:
    count = conf.number("offload-threads", 0)
    problem = Problem(
        id="wsredis.W328",
        text="offload-threads is not set: each websocket that is routed occupies a thread.",
        hint="offload-threads = 2",
        place=rule.place,
    )
    return Row(checked="offload-threads", found=str(count), problems=() if count else (problem,))
