"""Names of options that this uWSGI does not know: it ignores them, or with `strict` does not start."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator

from ..findings import Problem, Row, skipped
from . import program
from .aliases import LETTERS
from .program import Program
from .reading import Option, OptionList

LOADERS = ("autoload", "dlopen", "early-plugin")  # of plugins, which bring options that `--help` is not asked for
# those of which a misspelt name is told
CHECKED = (
    "buffer-size", "chdir", "die-on-term", "enable-threads", "gevent", "harakiri", "hook-master-start", "http-socket",
    "http-timeout", "http-websockets", "lazy-apps", "listen", "master", "max-requests", "module", "need-app",
    "offload-threads", "processes", "reload-on-rss", "threads", "touch-chain-reload", "virtualenv",
    "worker-reload-mercy", "wsgi-file",
)  # fmt: skip


def row(conf: OptionList, uwsgi: Program | None) -> Row:
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
        and (option.place or len(option.name) > 1)  # letters of a command line are known, or it does not start
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
        near = _nearest(option.name)
        line = f"{option.name} = {option.value}"
        if option.name in used:
            hint = f"set-placeholder = {option.name}={option.value}"
        else:
            hint = f"Did you mean {near} = {option.value}?" if near else f"Remove `{line}`, or mend its name."
        yield Problem(
            id="wsredis.E333",
            text=f"{option.name} is no option of this uWSGI, which does not start, as strict is on.",
            hint=hint,
            place=option.place,
        )


def _misspelt(unknown: Iterable[Option]) -> Iterator[Problem]:
    for option in unknown:
        if near := _nearest(option.name):
            yield Problem(
                id="wsredis.W308",
                text=f"{option.name} is no option of this uWSGI, which ignores it.",
                hint=f"Did you mean {near} = {option.value}? And with strict = true uWSGI tells itself.",
                place=option.place,
            )


def _nearest(name: str) -> str:
    """Return what is meant by a name that is no option, or by the letter of one; "" if that is not known."""
    return LETTERS.get(name) or next(iter(difflib.get_close_matches(name, CHECKED, 1, 0.85)), "")
