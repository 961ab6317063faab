"""gunicorn: the program, and its configuration, be it a file or what is running."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..findings import Problem, Row, skipped
from ..processes import closed, is_ours, of_another_project, open_to_us
from ..programs import Patience
from ..situation import Situation
from . import settings
from .reading import DEFAULT_FILE, Instance, ask, file_of

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
OPTION = "--gunicorn-conf"


def look(situation: Situation) -> Iterator[Row]:
    """Look at the program, and at each configuration."""
    patience = Patience()
    try:
        number = version("gunicorn")
    except PackageNotFoundError:
        yield skipped("gunicorn", "not installed beside this Python")
        return
    instances, others = _instances(situation)
    yield _version(number, is_used=bool(instances))
    yield from others
    for instance in instances:
        told = ask(instance, patience)
        for row in settings.rows(instance, told, situation):
            yield replace(row, checked=f"{instance.name}: {row.checked}") if len(instances) > 1 else row
    if not instances:
        why = f"no {OPTION}, no {DEFAULT_FILE} here, and none runs that is known to be this project's"
        yield skipped("gunicorn's configuration", why)


def _instances(situation: Situation) -> tuple[list[Instance], list[Row]]:
    """Return what is to be looked at, and rows for what is not."""
    folder, file = Path.cwd(), situation.gunicorn_conf
    if file is not None:
        return [Instance(file.name, ["-c", str(file)], folder, file)], []
    instances: list[Instance] = []
    processes, rows = open_to_us("gunicorn", called="gunicorn", option=OPTION)
    for process in processes:
        file = file_of(process.arguments, process.folder)
        instance = Instance(process.name, process.arguments, process.folder, file)
        if not any(map(is_ours, instance.words())):
            rows.append(of_another_project(instance.name, option=OPTION))
        elif row := closed(instance.name, [file], option=OPTION, is_run=True):
            rows.append(row)
        else:
            instances.append(instance)
    usual = folder / DEFAULT_FILE
    if not instances and usual.is_file():
        if row := closed(DEFAULT_FILE, [usual], option=OPTION, is_run=False):
            rows.append(row)
        else:
            instances.append(Instance(DEFAULT_FILE, [], folder, usual))
    return instances, rows


def _version(number: str, *, is_used: bool) -> Row:
    if not is_used or int(re.match(r"\d*", number)[0] or 0) >= MIN_VERSION:  # type: ignore[index]  # it always matches
        return Row(checked="gunicorn", found=number)
    text = f"gunicorn {number} is not tested with us; {MIN_VERSION} and newer are."
    problem = Problem(id="wsredis.W401", text=text, hint=f"pip install 'gunicorn>={MIN_VERSION}'")
    return Row(checked="gunicorn", found=number, problems=(problem,))
