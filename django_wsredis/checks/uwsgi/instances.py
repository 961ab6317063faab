"""Each uWSGI that is looked at: a file, or one of this project that runs, with the vassals of an Emperor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..findings import Row, skipped
from ..processes import Open, closed, is_ours, of_another_project, open_to_us
from ..situation import Situation
from . import serving
from .formats import FORMATS
from .reading import OptionList, read_command, read_file

VASSALS = tuple(f"*.{suffix}" for suffix in FORMATS)
OPTION = "--uwsgi-conf"


@dataclass(frozen=True, slots=True)
class Instance:
    """A uWSGI that is looked at. name: how rows call it. path: of its program, None if that is not known."""

    name: str
    configuration: OptionList
    folder: Path  # in which it starts
    path: Path | None = None


def is_of_this_project(process: Open) -> bool:
    """Tell whether a uWSGI that runs, or one of its vassals, has this project's application."""
    instance = _instance(process)
    return _is_ours(instance) or any(map(_is_ours, _vassals(instance, process.folder)[0]))


def find_instances(situation: Situation) -> tuple[list[Instance], list[Row]]:
    """Return what is to be looked at, and rows for what is not."""
    if situation.uwsgi_conf:
        path = situation.uwsgi_conf
        instance = Instance(path.name, read_file(path), Path.cwd())
        vassals, others = _vassals(instance, path.absolute().parent)
        return [instance, *vassals], others
    found: list[Instance] = []
    processes, rows = open_to_us("uwsgi", called="uWSGI", option=OPTION)
    for process in processes:
        instance = _instance(process)
        vassals, others = _vassals(instance, process.folder)
        if not vassals and not _is_ours(instance):
            rows.append(of_another_project(instance.name, option=OPTION))
        elif row := _closed(instance):
            rows.append(row)
        else:
            found += [instance, *vassals]
            rows += others
    return found, rows


def _instance(process: Open) -> Instance:
    conf = read_command(process.arguments, process.folder)
    return Instance(process.name, conf, process.folder, process.program)


def _is_ours(instance: Instance) -> bool:
    return is_ours(serving.named_application(instance.configuration, instance.folder))


def _closed(instance: Instance) -> Row | None:
    """Return a row if its program, or what names its plugins, is another user's: both would be run."""
    files = {Path(option.place.rpartition(":")[0]) for option in instance.configuration.options if option.place}
    return closed(instance.name, [instance.path, *sorted(files)], option=OPTION, is_run=True)


def _vassals(instance: Instance, folder: Path) -> tuple[list[Instance], list[Row]]:
    """Return the uWSGIs of this project that an Emperor starts, and rows for what is not looked at."""
    emperor = instance.configuration.get("emperor")
    if emperor is None:
        return [], []
    path = folder / emperor.value
    if not path.is_dir():
        return [], [skipped("vassals", f"{path} is no folder")]
    vassals: list[Instance] = []
    rows: list[Row] = []
    for file in (file for pattern in VASSALS for file in sorted(path.glob(pattern))):
        vassal = Instance(f"{file.parent.name}/{file.name}", read_file(file), path)
        if not _is_ours(vassal):
            rows.append(skipped(vassal.name, "it is not of this project"))
        elif row := _closed(vassal):
            rows.append(row)
        else:
            vassals.append(vassal)
    return vassals, rows
