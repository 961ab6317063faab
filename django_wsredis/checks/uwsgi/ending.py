"""What ends the workers of a uWSGI, and with them their websockets: slow requests, limits, a reload, a stop."""

from __future__ import annotations

from collections.abc import Iterator

from ...conf import Settings
from ..findings import Problem, Row
from .reading import Option, OptionList

# how long a worker has to end; and of an Emperor a vassal: when it ends itself, and when the vassal's file is removed
# (core/emperor.c, core/init.c)
DEFAULT_MERCY_SECONDS = {"worker-reload-mercy": 60, "reload-mercy": 30, "emperor-curse-tolerance": 30}
OF_WORKERS = ("worker-reload-mercy",)
OF_VASSALS = ("reload-mercy", "emperor-curse-tolerance")
LIMITS = ("max-requests", "reload-on-rss", "reload-on-as", "max-worker-lifetime")
EVIL_LIMITS = ("evil-reload-on-rss", "evil-reload-on-as")
IDLENESS = ("idle", "cheaper")
HOOK = "hook-master-start = unix_signal:15 gracefully_kill_them_all"
# these start a master, too; tried with uWSGI 2.0.31
WITH_MASTER = {
    "cheaper", "cron", "daemonize", "evil-reload-on-as", "evil-reload-on-rss", "fs-reload", "idle", "log-master",
    "logto2", "master", "master-fifo", "mule", "mules", "spooler", "stats", "subscribe-to",
    "touch-chain-reload", "touch-reload", "touch-workers-reload",
}  # fmt: skip
RELOADS_ALL = ("touch-reload", "py-autoreload", "touch-workers-reload", "fs-reload")


def rows(conf: OptionList, settings: Settings, *, is_old: bool) -> Iterator[Row]:
    """Look at all of them. is_old: whether it is a uWSGI before 2.1, which TERM reloads."""
    yield _harakiri(conf)
    yield _limits(conf)
    yield _idleness(conf)
    yield _stop(conf, is_old=is_old)
    yield _reload(conf)
    yield mercy(conf, settings)


def _told(options: list[Option]) -> str:
    return ", ".join(f"{option.name} = {option.value}" if option.value else option.name for option in options) or "none"


def _harakiri(conf: OptionList) -> Row:
    option = conf.get("harakiri")
    if option is None or not conf.number("harakiri", 0):
        return Row(checked="harakiri", found="none")
    problem = Problem(
        id="wsredis.W315",
        text=f"harakiri = {option.value}: a view that takes longer kills its worker, and with it all its websockets "
        "(1006). An open websocket itself is no request, and not concerned.",
        hint=f"Remove `{_told([option])}`; or set it well above the time of the slowest view, and --skip W315.",
        place=option.place,
    )
    return Row(checked="harakiri", found=f"{option.value} s", problems=(problem,))


def _limits(conf: OptionList) -> Row:
    limits, evil = _set(conf, LIMITS), _set(conf, EVIL_LIMITS)
    problems = [
        Problem(
            id="wsredis.W316",
            text=f"{_told([option])}: a worker that reaches it closes all its websockets (1001 or 1012), "
            "and they come back.",
            hint=f"Remove `{_told([option])}`. If the project leaks memory keep it, and --skip W316.",
            place=option.place,
        )
        for option in limits
    ] + [
        Problem(
            id="wsredis.W317",
            text=f"{_told([option])}: the master kills a worker that reaches it, and cuts all its websockets (1006).",
            hint=f"{option.name.removeprefix('evil-')} = {option.value}",
            place=option.place,
        )
        for option in evil
    ]
    return Row(checked="limits of a worker", found=_told(limits + evil), problems=tuple(problems))


def _set(conf: OptionList, names: tuple[str, ...]) -> list[Option]:
    """Return the limits that are set: 0 is none."""
    return [option for option in map(conf.get, names) if option and conf.number(option.name, 0)]


def _idleness(conf: OptionList) -> Row:
    options = [option for option in conf.all(*IDLENESS) if option.is_on]
    problems = tuple(
        Problem(
            id="wsredis.W318",
            text=f"{_told([option])} ends workers that have no requests; open websockets are none, and end, too.",
            hint=f"Remove `{_told([option])}`.",
            place=option.place,
        )
        for option in options
    )
    return Row(checked="idle workers", found=f"end: {_told(options)}" if options else "stay", problems=problems)


def _stop(conf: OptionList, *, is_old: bool) -> Row:
    """Look at what TERM does, which systemd and Docker send."""
    has_router = conf.get("http", "https") is not None
    die = conf.get("die-on-term")
    dies = die is not None and die.is_on
    hooks = [option for option in conf.all("hook-master-start") if "unix_signal:15" in option.value]
    if hooks and not dies:
        return Row(checked="TERM", found=f"hook-master-start = {hooks[-1].value}")
    if has_router and (dies or not is_old):
        problem = Problem(
            id="wsredis.W320",
            text="TERM ends the router first, and so cuts all websockets without a close code (1006).",
            hint=f"{HOOK}  ; instead of die-on-term",
            place=die.place if die else "",
        )
        return Row(checked="TERM", found="die-on-term, with a router", problems=(problem,))
    if dies or not is_old:
        return Row(checked="TERM", found="die-on-term")
    problem = Problem(
        id="wsredis.W319",
        text="die-on-term is not set: TERM, with which systemd and Docker stop a server, reloads uWSGI.",
        hint=HOOK if has_router else "die-on-term = true",
    )
    return Row(checked="TERM", found="reloads", problems=(problem,))


def _reload(conf: OptionList) -> Row:
    """Look at how new code is loaded."""
    chains, at_once = conf.all("touch-chain-reload"), conf.all(*RELOADS_ALL)
    problems = []
    if chains and not conf.is_on("lazy-apps"):
        problems.append(
            Problem(
                id="wsredis.W321",
                text=f"{_told(chains[-1:])} without lazy-apps: workers start anew with the old code.",
                hint="lazy-apps = true",
                place=chains[-1].place,
            )
        )
    problems += [
        Problem(
            id="wsredis.W322",
            text=f"{_told([option])} ends all workers at the same time: the site is away until they are back.",
            hint=f"lazy-apps = true\ntouch-chain-reload = {option.value}",
            place=option.place,
        )
        for option in at_once
        if option.name.startswith("touch-")
    ]
    return Row(checked="reload", found=_told(chains + at_once), problems=tuple(problems))


def mercy(conf: OptionList, settings: Settings, names: tuple[str, ...] = OF_WORKERS) -> Row:
    """Look at how long a worker, or a vassal, may take to end. names: of the options whose default counts."""
    options = [option for option in map(conf.get, DEFAULT_MERCY_SECONDS) if option]
    unset = [name for name in names if conf.get(name) is None]
    # what is wrong → the option's name, and where it is written
    wrong = {
        f"{_told([option])} is": (option.name, option.place)
        for option in options
        if conf.number(option.name, 0) <= settings.drain_seconds
    } | {
        f"{name} is not set, and {DEFAULT_MERCY_SECONDS[name]} by default, which is": (name, "")
        for name in unset
        if DEFAULT_MERCY_SECONDS[name] <= settings.drain_seconds
    }
    problems = tuple(
        Problem(
            id="wsredis.E323",
            text=f"{what} not above DRAIN_SECONDS, {settings.drain_seconds:g}: "
            "a worker is killed while it closes its websockets (1006).",
            hint=f"{name} = {int(settings.drain_seconds) + 10}",
            place=place,
        )
        for what, (name, place) in wrong.items()
    )
    defaults = [f"{name} = {DEFAULT_MERCY_SECONDS[name]} by default" for name in unset]
    found = ", ".join([*([_told(options)] if options else []), *defaults])
    return Row(checked="mercy", found=found, problems=problems)


def master(conf: OptionList) -> Row:
    """Look for the process that starts workers anew."""
    if conf.is_on("master") or any(option.name in WITH_MASTER - {"master"} for option in conf.options):
        return Row(checked="master", found="on")
    problem = Problem(
        id="wsredis.W326",
        text="master is not set: nothing starts a worker anew that ends, and there is no reload.",
        hint="master = true",
    )
    return Row(checked="master", found="off", problems=(problem,))
