"""gunicorn: the program, and its configuration, be it a file or what is running."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

from ..findings import Problem, Row, skipped
from ..programs import Patience
from ..situation import Situation
from . import settings
from .instances import OPTION, find_instances
from .reading import DEFAULT_FILE, ask

TITLES = {
    "wsredis.W401": "This version of gunicorn is not tested with us.",
    "wsredis.E402": "gunicorn does not accept its configuration.",
    "wsredis.E403": "This kind of gunicorn's workers cannot give up a socket.",
    "wsredis.W404": "gunicorn's workers serve one request at a time.",
    "wsredis.E405": "A worker is killed before it has closed its websockets.",
    "wsredis.W406": "A limit has a worker close all its websockets now and then.",
    "wsredis.W407": "A reload does not load new code.",
    "wsredis.W408": "gunicorn runs Django's own application, which answers websockets with 404.",
    "wsredis.E409": "gunicorn speaks TLS itself: websockets get 503.",
    "wsredis.E410": "gevent patches Python when the application has been imported.",
    "wsredis.W411": "A database driver holds up all greenlets of a worker of gunicorn.",
    "wsredis.W412": "Greenlets of gunicorn leave connections to the database open.",
    "wsredis.W413": "An async view starts asyncio in the thread of all greenlets of a worker of gunicorn.",
}
MIN_VERSION = 23


def look(situation: Situation) -> Iterator[Row]:
    """Look at the program, and at each configuration."""
    patience = Patience()
    try:
        number = version("gunicorn")
    except PackageNotFoundError:
        yield skipped("gunicorn", "not installed beside this Python")
        return
    instances, others = find_instances(situation)
    yield _version(number, is_used=bool(instances))
    yield from others
    for instance in instances:
        told = ask(instance, patience)
        for row in settings.rows(instance, told, situation):
            yield replace(row, checked=f"{instance.name}: {row.checked}") if len(instances) > 1 else row
    if not instances:
        why = f"no {OPTION}, no {DEFAULT_FILE} here, and none runs that is known to be this project's"
        yield skipped("gunicorn's configuration", why)


def _version(number: str, *, is_used: bool) -> Row:
    if not is_used or int(re.match(r"\d*", number)[0] or 0) >= MIN_VERSION:  # type: ignore[index]  # it always matches
        return Row(checked="gunicorn", found=number)
    text = f"gunicorn {number} is not tested with us; {MIN_VERSION} and newer are."
    problem = Problem(id="wsredis.W401", text=text, hint=f"pip install 'gunicorn>={MIN_VERSION}'")
    return Row(checked="gunicorn", found=number, problems=(problem,))
