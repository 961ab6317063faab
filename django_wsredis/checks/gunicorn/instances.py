"""Each gunicorn that is looked at: a file, or one of this project that runs."""

from __future__ import annotations

from pathlib import Path

from ..findings import Row
from ..processes import Open, closed, is_ours, of_another_project, open_to_us
from ..situation import Situation
from .reading import DEFAULT_FILE, Instance, file_of

OPTION = "--gunicorn-conf"


def is_of_this_project(process: Open) -> bool:
    """Tell whether a gunicorn that runs has this project's application."""
    return any(map(is_ours, _instance(process).words()))


def _instance(process: Open) -> Instance:
    return Instance(process.name, process.arguments, process.folder, file_of(process.arguments, process.folder))


def find_instances(situation: Situation) -> tuple[list[Instance], list[Row]]:
    """Return what is to be looked at, and rows for what is not."""
    folder, file = Path.cwd(), situation.gunicorn_conf
    if file is not None:
        return [Instance(file.name, ["-c", str(file)], folder, file)], []
    found: list[Instance] = []
    processes, rows = open_to_us("gunicorn", called="gunicorn", option=OPTION)
    for process in processes:
        instance = _instance(process)
        if not is_of_this_project(process):
            rows.append(of_another_project(instance.name, option=OPTION))
        elif row := closed(instance.name, [instance.file], option=OPTION, is_run=True):
            rows.append(row)
        else:
            found.append(instance)
    usual = folder / DEFAULT_FILE
    if not found and usual.is_file():
        if row := closed(DEFAULT_FILE, [usual], option=OPTION, is_run=False):
            rows.append(row)
        else:
            found.append(Instance(DEFAULT_FILE, [], folder, usual))
    return found, rows
