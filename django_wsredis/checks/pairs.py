"""Settings of which each is right by itself, and which do not fit together."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import combinations

from ..conf import Settings, given_settings
from .findings import Problem, Row, skipped
from .situation import Situation

TITLES = {
    "wsredis.W021": "Settings of WSREDIS do not fit together.",
}
NARROW = "?["  # what stands for some characters alone


def look(situation: Situation) -> Iterator[Row]:
    """Compare the settings with each other."""
    checked, settings = "settings together", situation.settings
    if settings is None:
        yield skipped(checked, "the settings are wrong")
        return
    problems = (*_sizes(settings), *_without_effect(settings), *_hidden(settings))
    yield Row(checked=checked, found="they do not fit" if problems else "they fit", problems=problems)


def _problem(text: str, hint: str) -> Problem:
    return Problem(id="wsredis.W021", text=text, hint=hint)


def _sizes(settings: Settings) -> Iterator[Problem]:
    message, outbox = settings.max_message_bytes, settings.max_outbox_bytes
    if settings.allowed_channels is not None and outbox < message:  # else no browser publishes
        yield _problem(
            f"MAX_OUTBOX_BYTES is {outbox:,}, and MAX_MESSAGE_BYTES {message:,}: a message that a browser may send "
            "closes each socket for which anything else waits, or that still reads what was kept (1013).",
            f'WSREDIS = {{"MAX_OUTBOX_BYTES": {4 * message}, …}}, or a lower MAX_MESSAGE_BYTES.',
        )
    heartbeat = len((settings.heartbeat or "").encode())
    if heartbeat > message:
        yield _problem(
            f"HEARTBEAT has {heartbeat:,} bytes, and MAX_MESSAGE_BYTES is {message:,}: a page that sends it is closed "
            "(1009).",
            'WSREDIS = {"HEARTBEAT": "--heartbeat--", …}, or a higher MAX_MESSAGE_BYTES.',
        )


def _without_effect(settings: Settings) -> Iterator[Problem]:
    """Yield what the project has set, and what another setting makes to nothing."""
    if given_settings().get("SESSION_RECHECK") and settings.process_request is not None:
        yield _problem(
            f"SESSION_RECHECK is {settings.session_recheck:g}, and PROCESS_REQUEST is set: that says who a visitor is, "
            "and is not asked again, so no open socket is looked at.",
            'Remove "SESSION_RECHECK". Where a token ends: django_wsredis.disconnect(users=[username])',
        )
    if settings.expire and any(pattern == "*" for pattern, _ in settings.history):
        yield _problem(
            f"EXPIRE is {settings.expire:,}, and HISTORY has '*', which fits each facility: so EXPIRE never counts.",
            'Remove "EXPIRE"; or name facilities in HISTORY in place of "*".',
        )


def _hidden(settings: Settings) -> Iterator[Problem]:
    """Yield patterns of facilities behind one that fits all that they fit: the first counts."""
    for key, pairs in (("HISTORY", settings.history), ("SLOW", settings.slow)):
        for (first, said), (later, says) in combinations(pairs, 2):
            if said != says and _has_all(first, later):
                yield _problem(
                    f"{key} has {first!r} before {later!r}, and the first that fits counts: what it says of the "
                    "latter is never used.",
                    f"In WSREDIS[{key!r}] write {later!r} before {first!r}.",
                )


def _has_all(wide: str, pattern: str) -> bool:
    """Tell whether all that fits a pattern surely fits a wide one: of `*` and plain characters."""
    return not any(mark in wide for mark in NARROW) and "[" not in pattern and fnmatchcase(pattern, wide)
