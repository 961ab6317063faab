"""gunicorn: the program, and its configuration, be it a file or what is running."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings

from .application import application_row
from .findings import Problem, Row, skipped
from .programs import Patience, running
from .situation import Situation

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
DEFAULT_FILE = "gunicorn.conf.py"
USABLE = re.compile(r"(gunicorn\.workers\.)?(sync|gthread|gevent(_py)?(_?wsgi)?|ggevent)(\.\w+)?")
UNUSABLE = re.compile(r"uvicorn|tornado|asgi|eventlet|aiohttp|geventwebsocket", re.I)

# Runs in a process of its own: the configuration is Python. Its last line is what gunicorn makes of it.
PROBE = """
import json, sys
from gunicorn.app.base import Application
from gunicorn.app.wsgiapp import WSGIApplication

class Probe(WSGIApplication):
    load_config = Application.load_config  # WSGIApplication's own wants an application to be named

sys.argv[0] = "gunicorn"
cfg = (probe := Probe("gunicorn")).cfg
names = ("threads", "timeout", "graceful_timeout", "max_requests", "preload_app", "workers")
told = {name: getattr(cfg, name) for name in names}
told |= {"worker_class": cfg.worker_class_str, "application": probe.app_uri or cfg.wsgi_app or ""}
told |= {"certfile": bool(cfg.certfile), "bind": ", ".join(cfg.bind)}
print()
print(json.dumps(told))
"""


@dataclass(frozen=True, slots=True)
class Instance:
    """A gunicorn that is looked at. name: how rows call it. file: its configuration, if that is known."""

    name: str
    arguments: Sequence[str]
    folder: Path
    file: Path | None = None

    def place(self, setting: str) -> str:
        """Return the file and line where something is set."""
        if self.file is None:
            return ""
        try:
            lines = self.file.read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return str(self.file)
        numbers = [number for number, line in enumerate(lines, 1) if re.match(rf"\s*{setting}\b.*=", line)]
        return f"{self.file}:{numbers[-1]}" if numbers else str(self.file)


def look(situation: Situation) -> Iterator[Row]:
    """Look at the program, and at each configuration."""
    patience = Patience()
    try:
        number = version("gunicorn")
    except PackageNotFoundError:
        yield skipped("gunicorn", "not installed beside this Python")
        return
    instances = list(_instances(situation))
    yield _version(number, is_used=bool(instances))
    is_known = False
    for instance in instances:
        told = _ask(instance, patience)
        if isinstance(told, dict) and situation.gunicorn_conf is None and not _is_ours(told):
            yield skipped(instance.name, "it runs, but not this project")
            continue
        is_known = True
        for row in _configuration(instance, told, situation):
            yield replace(row, checked=f"{instance.name}: {row.checked}") if len(instances) > 1 else row
    if not is_known:
        yield skipped("gunicorn's configuration", f"no --gunicorn-conf, no {DEFAULT_FILE} here, and none runs")


def _instances(situation: Situation) -> Iterator[Instance]:
    folder = Path.cwd()
    file = situation.gunicorn_conf
    if file is not None:
        yield Instance(file.name, ["-c", str(file)], folder, file)
        return
    found = [process for process in running("gunicorn") if process.folder is not None]
    for process in found:
        words = process.arguments
        start = next(index for index, word in enumerate(words) if Path(word).name == "gunicorn")
        arguments = words[start + 1 :]
        folder = process.folder or folder
        yield Instance(f"gunicorn {process.pid}", arguments, folder, _file(arguments, folder))
    if not found and (folder / DEFAULT_FILE).is_file():
        yield Instance(DEFAULT_FILE, [], folder, folder / DEFAULT_FILE)


def _file(arguments: Sequence[str], folder: Path) -> Path | None:
    """Return the configuration that a command line names, or the one that gunicorn looks for."""
    line = "\0".join(arguments)
    match = re.search(r"(?:^|\0)(?:-c|--config)[\0=]?([^\0]+)", line)
    path = folder / (match[1] if match else DEFAULT_FILE)
    return path if path.is_file() else None


def _ask(instance: Instance, patience: Patience) -> dict[str, Any] | str:
    """Return what gunicorn makes of a configuration, or what it says against it; "" if it does not answer."""
    said = patience.ask(sys.executable, "-c", PROBE, *instance.arguments, folder=instance.folder)
    if said.status is None:
        return ""
    lines = [line for line in said.text.splitlines() if line.strip()] or ["it says nothing"]
    if said.status == 0:
        try:
            told = json.loads(lines[-1])
        except ValueError:  # it ended itself
            told = None
        return told if isinstance(told, dict) else lines[-1]
    return lines[-1].removeprefix("Error: ")


def _is_ours(told: dict[str, Any]) -> bool:
    ours = (django_settings.WSGI_APPLICATION or "").partition(".")[0]
    return str(told["application"]).partition(":")[0].partition(".")[0] == ours


def _version(number: str, *, is_used: bool) -> Row:
    if not is_used or int(re.match(r"\d*", number)[0] or 0) >= MIN_VERSION:  # type: ignore[index]  # it always matches
        return Row(checked="gunicorn", found=number)
    text = f"gunicorn {number} is not tested with us; {MIN_VERSION} and newer are."
    problem = Problem(id="wsredis.W401", text=text, hint=f"pip install 'gunicorn>={MIN_VERSION}'")
    return Row(checked="gunicorn", found=number, problems=(problem,))


def _configuration(instance: Instance, told: dict[str, Any] | str, situation: Situation) -> Iterator[Row]:
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


def _workers(instance: Instance, told: dict[str, Any]) -> Row:
    kind, threads = told["worker_class"], told["threads"]
    place = instance.place("worker_class")
    found = f"{told['workers']} of {kind}, {threads} thread{'s' * (threads > 1)} each, timeout {told['timeout']} s"
    hint = 'worker_class = "gthread", and threads = 8'
    if UNUSABLE.search(kind):
        text = f"worker_class is {kind!r}: websockets need a WSGI worker that gives up its sockets."
        problem = Problem(id="wsredis.E403", text=text, hint=hint, place=place)
        return Row(checked="workers", found=found, problems=(problem,))
    if not USABLE.fullmatch(kind):
        return skipped("workers", f"{kind} is a class that is not known here")
    if "gevent" in kind or (threads > 1 and "sync" not in kind):
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
        hint="max_requests = 0, unless the project leaks memory",
        place=instance.place("max_requests"),
    )
    return Row(checked="max_requests", found=str(count), problems=(problem,))


def _preload(instance: Instance, told: dict[str, Any]) -> Row:
    if not told["preload_app"]:
        return Row(checked="preload_app", found="off")
    text = "preload_app is on: HUP does not load new code, only a restart does, which ends all workers at once."
    place = instance.place("preload_app")
    problem = Problem(id="wsredis.W407", text=text, hint="preload_app = False", place=place)
    return Row(checked="preload_app", found="on", problems=(problem,))
