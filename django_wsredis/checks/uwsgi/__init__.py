"""uWSGI: the program, and its configuration, be it a file or what is running."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ...conf import Settings
from ...wording import of_them, sentence
from ..findings import Problem, Row, skipped
from ..processes import closed, is_ours, of_another_project, open_to_us
from ..programs import Patience, find_program
from ..situation import Situation
from . import buffer, ending, program, routing, serving, views
from .formats import FORMATS
from .program import Program
from .reading import Configuration, Option, read_command, read_file

TITLES = {
    "wsredis.W301": "This version of uWSGI is not tested with us.",
    "wsredis.E302": "uWSGI was built for another Python than the project's.",
    "wsredis.E303": "gevent is used, and uWSGI was built without it.",
    "wsredis.E304": "Routes are used, and uWSGI was built without PCRE.",
    "wsredis.E305": "https is used, and uWSGI was built without TLS.",
    "wsredis.E306": "The wheel pyuwsgi cannot be an Emperor.",
    "wsredis.E307": "The configuration of uWSGI cannot be read.",
    "wsredis.W308": "uWSGI does not know an option, and ignores it.",
    "wsredis.W309": "uWSGI runs Django's own application, which answers websockets with 404.",
    "wsredis.W310": "uWSGI starts without the application if that cannot be imported.",
    "wsredis.E311": "uWSGI runs neither gevent nor Python's threads: websockets get 503.",
    "wsredis.E312": "A websocket cannot be detached from this kind of socket: it gets 503.",
    "wsredis.E313": "uWSGI's router drops what browsers send.",
    "wsredis.E314": "uWSGI's router cuts websockets between two pings.",
    "wsredis.W315": "harakiri kills a worker with all its websockets for one slow view.",
    "wsredis.W316": "A limit has a worker close all its websockets now and then.",
    "wsredis.W317": "A limit has a worker killed, with all its websockets.",
    "wsredis.W318": "Workers end that have no requests, though they have websockets.",
    "wsredis.W319": "TERM does not stop uWSGI.",
    "wsredis.W320": "A stop cuts websockets, as the router ends before the workers.",
    "wsredis.W321": "A chain reload does not load new code.",
    "wsredis.W322": "A reload ends all workers at the same time.",
    "wsredis.E323": "A worker is killed before it has closed its websockets.",
    "wsredis.E324": "uWSGI does not start: listen is above the kernel's limit.",
    "wsredis.W325": "A handshake with many cookies does not fit into buffer-size.",
    "wsredis.W326": "uWSGI runs without a master.",
    "wsredis.E327": "No route of uWSGI leads websockets to where they are served.",
    "wsredis.W328": "Each websocket that uWSGI routes occupies one of its threads.",
    "wsredis.E329": "gevent patches Python too late.",
    "wsredis.W330": "A database driver holds up all greenlets of a worker of uWSGI.",
    "wsredis.W331": "Greenlets of uWSGI leave connections to the database open.",
    "wsredis.W332": "An async view starts asyncio in the thread of all greenlets of a worker of uWSGI.",
    "wsredis.E333": "uWSGI does not start: strict is on, and it does not know an option.",
}
LOADERS = ("autoload", "dlopen", "early-plugin")  # of plugins, which bring options that `--help` is not asked for
# those of which a misspelt name is told
CHECKED = (
    "buffer-size", "chdir", "die-on-term", "enable-threads", "gevent", "harakiri", "hook-master-start", "http-socket",
    "http-timeout", "http-websockets", "lazy-apps", "listen", "master", "max-requests", "module", "need-app",
    "offload-threads", "processes", "reload-on-rss", "threads", "touch-chain-reload", "virtualenv",
    "worker-reload-mercy", "wsgi-file",
)  # fmt: skip
VASSALS = tuple(f"*.{suffix}" for suffix in FORMATS)
OPTION = "--uwsgi-conf"


@dataclass(frozen=True, slots=True)
class Instance:
    """A uWSGI that is looked at. name: how rows call it. path: of its program, None if that is not known."""

    name: str
    configuration: Configuration
    folder: Path  # in which it starts
    path: Path | None = None


def look(situation: Situation) -> Iterator[Row]:
    """Look at the program, and at each configuration."""
    patience = Patience()
    instances, others = _instances(situation)
    path = next((instance.path for instance in instances if instance.path), None) or find_program("uwsgi", "pyuwsgi")
    configurations = [instance.configuration for instance in instances]
    if path is None:
        yield skipped("uWSGI", "neither beside Python nor on PATH")
    found = program.inspect(path, _merge(configurations), patience) if path else None
    if isinstance(found, Program):
        yield from program.rows(found, configurations)
    elif found is not None:
        yield skipped("uWSGI", f"{path}: {found}")
    yield from others
    if not instances:
        yield skipped("uWSGI's configuration", f"no {OPTION}, and none runs that is known to be this project's")
    uwsgi = found if isinstance(found, Program) else None
    for instance in instances:
        for row in _configuration(instance, situation.settings, uwsgi):
            yield replace(row, checked=f"{instance.name}: {row.checked}") if len(instances) > 1 else row


def _merge(configurations: Iterable[Configuration]) -> Configuration:
    return Configuration(option for conf in configurations for option in conf.options)


def _instances(situation: Situation) -> tuple[list[Instance], list[Row]]:
    """Return what is to be looked at, and rows for what is not."""
    if situation.uwsgi_conf:
        path = situation.uwsgi_conf
        instance = Instance(path.name, read_file(path), Path.cwd())
        vassals, others = _vassals(instance, path.absolute().parent)
        return [instance, *vassals], others
    instances: list[Instance] = []
    processes, rows = open_to_us("uwsgi", called="uWSGI", option=OPTION)
    for process in processes:
        conf = read_command(process.arguments, process.folder)
        instance = Instance(process.name, conf, process.folder, process.program)
        vassals, others = _vassals(instance, process.folder)
        if not vassals and not _is_ours(instance):
            rows.append(of_another_project(instance.name, option=OPTION))
        elif row := _closed(instance):
            rows.append(row)
        else:
            instances += [instance, *vassals]
            rows += others
    return instances, rows


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


def _configuration(instance: Instance, settings: Settings | None, uwsgi: Program | None) -> Iterator[Row]:
    conf = instance.configuration
    yield _read(conf)
    for what, why in conf.unread[1 if not conf.options else 0 :]:
        yield skipped(what, why)
    for what, found in conf.decided:
        yield Row(checked=what, found=found)
    if not conf.options:
        return
    yield _unknown(conf, uwsgi)
    if settings is None:
        yield skipped("uWSGI's options", "the settings are wrong, and they depend on those")
        return
    yield serving.listen(conf)
    yield buffer.row(conf)
    serves = conf.get(*serving.APPLICATIONS) is not None
    yield from routing.rows(conf, settings, serves=serves)
    if conf.get("emperor") and not serves:
        yield serving.sockets(conf)
        yield ending.mercy(conf, settings, ending.OF_VASSALS)
        return
    application = serving.application(conf, instance.folder)
    yield application
    if application.problems:  # another server takes the websockets, or none
        return
    yield serving.need_app(conf)
    yield serving.loop(conf)
    yield from views.rows(conf)
    yield serving.sockets(conf)
    yield from serving.router(conf, settings)
    yield ending.master(conf)
    yield from ending.rows(conf, settings, is_old=not (uwsgi and uwsgi.version.startswith("2.1")))


def _read(conf: Configuration) -> Row:
    places = dict.fromkeys(option.place.rpartition(":")[0] or "its command line" for option in conf.options)
    if conf.options:
        return Row(checked="configuration", found=f"{', '.join(places)}: {of_them(len(conf.options), 'option')}")
    what, why = conf.unread[0] if conf.unread else ("the command line", "it has no options")
    problem = Problem(
        id="wsredis.E307", text=sentence(f"{what}: {why}"), hint="./manage.py wscheck --emit uwsgi > site.ini"
    )
    return Row(checked="configuration", found=why, problems=(problem,))


def _unknown(conf: Configuration, uwsgi: Program | None) -> Row:
    """Look for names that are no options: uWSGI takes any, to be used as `%(name)`, but with `strict` it takes none."""
    checked = "names of options"
    if uwsgi is None or not uwsgi.options:
        return skipped(checked, "without the program it is not known which there are")
    used = set(re.findall(r"%\(([\w.-]+)\)", " ".join(option.raw for option in conf.options)))
    is_strict = conf.is_on("strict")
    lacking = tuple(name for part, name in program.PARTS.items() if not uwsgi.has(part))  # of which E303 to E305 tell
    unknown = [
        option
        for option in conf.options
        if option.name not in uwsgi.options
        and option.name not in CHECKED
        and not option.is_placeholder
        and not option.name.startswith(lacking)
        and (is_strict or option.name not in used)
    ]
    names = ", ".join(dict.fromkeys(option.name for option in unknown))
    if unknown and (uwsgi.lacks_plugins or conf.get(*LOADERS)):
        return skipped(checked, f"not known: {names}; but not all plugins could be asked for their options")
    refusals = _refused(unknown, used) if is_strict else _misspelt(unknown)
    return Row(checked=checked, found=f"not known: {names}" if unknown else "known", problems=tuple(refusals))


def _refused(unknown: Iterable[Option], used: Collection[str]) -> Iterator[Problem]:
    for option in unknown:
        near = difflib.get_close_matches(option.name, CHECKED, 1, 0.85)
        line = f"{option.name} = {option.value}"
        if option.name in used:
            hint = f"set-placeholder = {option.name}={option.value}"
        else:
            hint = f"Did you mean {near[0]} = {option.value}?" if near else f"Remove `{line}`, or mend its name."
        yield Problem(
            id="wsredis.E333",
            text=f"{option.name} is no option of this uWSGI, which does not start, as strict is on.",
            hint=hint,
            place=option.place,
        )


def _misspelt(unknown: Iterable[Option]) -> Iterator[Problem]:
    for option in unknown:
        if near := difflib.get_close_matches(option.name, CHECKED, 1, 0.85):
            yield Problem(
                id="wsredis.W308",
                text=f"{option.name} is no option of this uWSGI, which ignores it.",
                hint=f"Did you mean {near[0]} = {option.value}? And with strict = true uWSGI tells itself.",
                place=option.place,
            )
