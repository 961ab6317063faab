"""What a uWSGI with gevent runs views in: threads of ours; or, where gevent has patched Python, greenlets."""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import Problem, Row
from ..greenlets import Greenlets, patched_modules
from ..greenlets import rows as greenlet_rows
from .reading import OptionList

EARLY, LATE = "gevent-early-monkey-patch", "gevent-monkey-patch"


def rows(conf: OptionList) -> Iterator[Row]:
    """Look at what is patched, and when. To be called when the application has been imported, which may patch, too."""
    if conf.get("gevent") is None:
        return
    early, late = (option if option and option.is_on else None for option in map(conf.get, (EARLY, LATE)))
    own, others = patched_modules()
    option = early or late
    if option is None and "socket" not in own:
        yield Row(checked="views", found="in threads, as gevent patches nothing")
        return
    said = option.name if option else "monkey.patch_all() in the project's code"
    problems: tuple[Problem, ...] = ()
    if late and not early and others:
        problem = Problem(
            id="wsredis.E329",
            text=f"{LATE} patches when the application has been imported, also with lazy-apps. Django then refuses its "
            "database to every greenlet but one, and a lock that was made before may wait for ever.",
            hint=f"{EARLY} = true, instead; or leave it out: then views run in threads.",
            place=late.place,
        )
        problems = (problem,)
    yield Row(checked="views", found=f"as greenlets, by {said}", problems=problems)
    instead = f"remove {said}: then views run in threads, where it does not matter."
    server = Greenlets(setting=said, instead=instead, place=option.place if option else "")
    yield from greenlet_rows(server, driver="wsredis.W330", kept="wsredis.W331", views="wsredis.W332")
