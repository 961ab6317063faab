"""uWSGI: the program, and its configuration, be it a file or what is running."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ...conf import Settings
from ...wording import of_them, sentence
from ..findings import Problem, Row, skipped
from ..programs import Patience, find_program
from ..situation import Situation
from . import buffer, ending, names, program, routing, serving, views
from .instances import OPTION, Instance, find_instances
from .program import Program
from .reading import OptionList

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


def look(situation: Situation) -> Iterator[Row]:
    """Look at the program, and at each configuration."""
    patience = Patience()
    instances, others = find_instances(situation)
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


def _merge(configurations: Iterable[OptionList]) -> OptionList:
    return OptionList(option for conf in configurations for option in conf.options)


def _configuration(instance: Instance, settings: Settings | None, uwsgi: Program | None) -> Iterator[Row]:
    conf = instance.configuration
    yield _read(conf)
    for what, why in conf.unread[1 if not conf.options else 0 :]:
        yield skipped(what, why)
    for what, found in conf.decided:
        yield Row(checked=what, found=found)
    if not conf.options:
        return
    yield names.row(conf, uwsgi)
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


def _read(conf: OptionList) -> Row:
    places = dict.fromkeys(option.place.rpartition(":")[0] or "its command line" for option in conf.options)
    if conf.options:
        return Row(checked="configuration", found=f"{', '.join(places)}: {of_them(len(conf.options), 'option')}")
    what, why = conf.unread[0] if conf.unread else ("the command line", "it has no options")
    problem = Problem(
        id="wsredis.E307", text=sentence(f"{what}: {why}"), hint="./manage.py wscheck --emit uwsgi > site.ini"
    )
    return Row(checked="configuration", found=why, problems=(problem,))
