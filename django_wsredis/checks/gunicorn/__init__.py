"""gunicorn: the program, and its configuration, be it a file or what is running."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings

from ..findings import Problem, Row, skipped
from ..programs import Patience, running
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
    instances, others = _instances(situation)
    yield _version(number, is_used=bool(instances))
    yield from others
    is_known = bool(others)
    for instance in instances:
        told = ask(instance, patience)
        if isinstance(told, dict) and situation.gunicorn_conf is None and not _is_ours(told):
            yield skipped(instance.name, "it runs, but not this project")
            continue
        is_known = True
        for row in settings.rows(instance, told, situation):
            yield replace(row, checked=f"{instance.name}: {row.checked}") if len(instances) > 1 else row
    if not is_known:
        yield skipped("gunicorn's configuration", f"no --gunicorn-conf, no {DEFAULT_FILE} here, and none runs")


def _instances(situation: Situation) -> tuple[list[Instance], list[Row]]:
    """Return what is to be looked at, and rows for what is not."""
    folder, file = Path.cwd(), situation.gunicorn_conf
    if file is not None:
        return [Instance(file.name, ["-c", str(file)], folder, file)], []
    instances: list[Instance] = []
    rows: list[Row] = []
    for process in running("gunicorn"):
        name = f"gunicorn {process.pid}"
        if process.folder is None:
            rows.append(skipped(name, "it runs, as another user"))
        elif process.arguments[0].startswith("gunicorn: "):  # by setproctitle
            rows.append(skipped(name, "it runs, and shows no command line; name its file by --gunicorn-conf"))
        else:
            start = next(index for index, word in enumerate(process.arguments) if Path(word).name == "gunicorn")
            arguments = process.arguments[start + 1 :]
            instances.append(Instance(name, arguments, process.folder, file_of(arguments, process.folder)))
    if not instances and not rows and (folder / DEFAULT_FILE).is_file():
        instances.append(Instance(DEFAULT_FILE, [], folder, folder / DEFAULT_FILE))
    return instances, rows


def _is_ours(told: dict[str, Any]) -> bool:
    ours = (django_settings.WSGI_APPLICATION or "").partition(".")[0]
    return str(told["application"]).partition(":")[0].partition(".")[0] == ours


def _version(number: str, *, is_used: bool) -> Row:
    if not is_used or int(re.match(r"\d*", number)[0] or 0) >= MIN_VERSION:  # type: ignore[index]  # it always matches
        return Row(checked="gunicorn", found=number)
    text = f"gunicorn {number} is not tested with us; {MIN_VERSION} and newer are."
    problem = Problem(id="wsredis.W401", text=text, hint=f"pip install 'gunicorn>={MIN_VERSION}'")
    return Row(checked="gunicorn", found=number, problems=(problem,))
