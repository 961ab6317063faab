"""The settings of a gunicorn, one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..application import application_row
from ..findings import Problem, Row, skipped
from ..greenlets import Greenlets, patched_modules
from ..greenlets import rows as greenlet_rows
from ..situation import Situation
from .reading import Instance

USABLE = re.compile(r"(gunicorn\.workers\.)?(sync|gthread|gevent(_py)?(_?wsgi)?|ggevent)(\.\w+)?")
UNUSABLE = re.compile(r"uvicorn|tornado|asgi|eventlet|aiohttp|geventwebsocket", re.I)


def rows(instance: Instance, told: dict[str, Any] | str, situation: Situation) -> Iterator[Row]:
    source = str(instance.file or "its command line")
    if not told:
        yield skipped("configuration", f"{source}: it takes too long to read")
        return
    if isinstance(told, str):
        hint = f"gunicorn --check-config {'-c ' if instance.file else ''}{instance.file or ''} says more."
        problem = Problem(id="wsredis.E402", text=f"gunicorn refuses it: {told}", hint=hint, place=source)
        yield Row(checked="configuration", found=told, problems=(problem,))
        return
    yield Row(checked="configuration", found=f"{source}: listens on {told['bind']}")
    if told["application"]:
        yield application_row(told["application"], id="wsredis.W408", place=instance.place("wsgi_app"))
    else:
        yield skipped("application", "the file names none; it stands on gunicorn's command line")
    yield _workers(instance, told)
    yield _certificate(instance, told)
    yield _graceful(instance, told, situation)
    yield _limit(instance, told)
    yield _preload(instance, told)
    yield from _views(instance, told)


def _workers(instance: Instance, told: dict[str, Any]) -> Row:
    kind, threads = told["worker_class"], told["threads"]
    place = instance.place("worker_class")
    found = f"{told['workers']} of {kind}, {threads} thread{'s' * (threads > 1)} each, timeout {told['timeout']} s"
    hint = 'worker_class = "gthread"\nthreads = 8'
    if UNUSABLE.search(kind):
        text = f"worker_class is {kind!r}: websockets need a WSGI worker that gives up its sockets."
        problem = Problem(id="wsredis.E403", text=text, hint=hint, place=place)
        return Row(checked="workers", found=found, problems=(problem,))
    if not USABLE.fullmatch(kind):
        return skipped("workers", f"{kind} is a class that is not known here")
    if _is_gevent(told) or (threads > 1 and "sync" not in kind):
        return Row(checked="workers", found=found)
    kills = f"; one that takes longer than {told['timeout']} s ends it, with its websockets" if told["timeout"] else ""
    text = (
        f"worker_class is {kind!r} with one thread: a slow view holds up the worker{kills if 'sync' in kind else ''}."
    )
    return Row(
        checked="workers",
        found=found,
        problems=(Problem(id="wsredis.W404", text=text, hint=hint, place=place),),
    )


def _certificate(instance: Instance, told: dict[str, Any]) -> Row:
    if not told["certfile"]:
        return Row(checked="TLS", found="none")
    problem = Problem(
        id="wsredis.E409",
        text="certfile is set: gunicorn speaks TLS itself, and a websocket cannot be detached; it gets 503.",
        hint="Remove certfile, and let a proxy speak TLS: ./manage.py wscheck --emit nginx --certfile PATH",
        place=instance.place("certfile"),
    )
    return Row(checked="TLS", found="certfile", problems=(problem,))


def _graceful(instance: Instance, told: dict[str, Any], situation: Situation) -> Row:
    seconds, settings = told["graceful_timeout"], situation.settings
    if settings is None:
        return skipped("graceful_timeout", "the settings are wrong, and so DRAIN_SECONDS is not known")
    if seconds > settings.drain_seconds:
        return Row(checked="graceful_timeout", found=f"{seconds} s")
    problem = Problem(
        id="wsredis.E405",
        text=f"graceful_timeout is {seconds}, not above DRAIN_SECONDS, {settings.drain_seconds:g}: "
        "a worker is killed while it closes its websockets (1006).",
        hint=f"graceful_timeout = {int(settings.drain_seconds) + 10}",
        place=instance.place("graceful_timeout"),
    )
    return Row(checked="graceful_timeout", found=f"{seconds} s", problems=(problem,))


def _limit(instance: Instance, told: dict[str, Any]) -> Row:
    count = told["max_requests"]
    if not count:
        return Row(checked="max_requests", found="none")
    problem = Problem(
        id="wsredis.W406",
        text=f"max_requests = {count}: a worker that reaches it closes all its websockets (1001), and they come back.",
        hint="max_requests = 0\nIf the project leaks memory keep it, and --skip W406.",
        place=instance.place("max_requests"),
    )
    return Row(checked="max_requests", found=str(count), problems=(problem,))


def _preload(instance: Instance, told: dict[str, Any]) -> Row:
    if not told["preload_app"]:
        return Row(checked="preload_app", found="off")
    place = instance.place("preload_app")
    text = "preload_app is on: HUP does not load new code, only a restart does, which ends all workers at once."
    problems = [Problem(id="wsredis.W407", text=text, hint="preload_app = False", place=place)]
    if _is_gevent(told) and not told["is_patched"] and patched_modules()[1]:  # the file and the application do not
        text = (
            f"preload_app is on, and worker_class {told['worker_class']!r}: it patches when the application has been "
            "imported. Django then refuses its database to every greenlet but one, and a lock may wait for ever."
        )
        problems.append(Problem(id="wsredis.E410", text=text, hint="preload_app = False", place=place))
    return Row(checked="preload_app", found="on", problems=tuple(problems))


def _is_gevent(told: dict[str, Any]) -> bool:
    """Tell whether its workers are gevent's, which patch all in the process that they are."""
    return "gevent" in told["worker_class"]


def _views(instance: Instance, told: dict[str, Any]) -> Iterator[Row]:
    kind = told["worker_class"]
    if not USABLE.fullmatch(kind) or not _is_gevent(told):
        return
    yield Row(checked="views", found=f"as greenlets, by worker_class {kind!r}")
    instead = 'worker_class = "gthread", and threads = 8: then views run in threads, where it does not matter.'
    server = Greenlets(setting=f"worker_class {kind!r}", instead=instead, place=instance.place("worker_class"))
    yield from greenlet_rows(server, driver="wsredis.W411", kept="wsredis.W412", views="wsredis.W413")
