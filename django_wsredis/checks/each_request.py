"""What is wrong with the code that Django runs for each request: its middleware, and receivers of its signals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import ReferenceType

from django.apps import apps
from django.conf import settings as django_settings
from django.core import signals as requests
from django.db.backends import signals as databases
from django.db.models import signals as models
from django.dispatch import Signal
from django.utils.module_loading import import_string

from .findings import Problem, Row
from .situation import Situation

TITLES = {
    "wsredis.W008": "Users log in, but a middleware that pages need for that is missing.",
    "wsredis.W009": "A middleware is for asyncio alone.",
    "wsredis.E022": "A middleware cannot be imported.",
    "wsredis.W023": "A receiver of Django's signals is async.",
}
NEEDED = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
)
LOOP = "starts a loop of asyncio in the thread of all greenlets, and to others Django refuses the database meanwhile"
THREADS = "Or run the site with threads (runwsserver, uWSGI with threads, gthread), and skip this check."


def look(situation: Situation) -> Iterator[Row]:
    """Look at MIDDLEWARE, and at who listens to the signals that Django sends while it answers."""
    yield _middleware()
    yield _receivers()


def _middleware() -> Row:
    names = list(django_settings.MIDDLEWARE)
    found: dict[str, Any] = {}
    problems = []
    for name in names:
        try:
            found[name] = import_string(name)
        except (Exception, SystemExit) as error:  # whatever the project's module raises
            problems.append(_missing(name, error))
    missing = [name for name in NEEDED if name not in {_original(name, found.get(name)) for name in names}]
    if apps.is_installed("django.contrib.auth") and missing and not problems:  # of which one may be derived from it
        problem = Problem(
            id="wsredis.W008",
            text=f"MIDDLEWARE lacks {', '.join(missing)}: nobody logs in on a page, so no socket is a user's.",
            hint=f"Add {', '.join(map(repr, missing))} to MIDDLEWARE.",
        )
        problems.append(problem)
    problems += [
        Problem(
            id="wsredis.W009",
            text=f"The middleware {name} is for asyncio alone: in a worker with gevent each page {LOOP}.",
            hint="Let its class have: sync_capable = True\nOr, of a function: @sync_and_async_middleware, in place of "
            f"@async_only_middleware\n{THREADS}",
        )
        for name, middleware in found.items()
        if not getattr(middleware, "sync_capable", True) and getattr(middleware, "async_capable", False)
    ]
    return Row(checked="MIDDLEWARE", found=f"{len(names)} of them", problems=tuple(problems))


def _missing(name: str, error: BaseException) -> Problem:
    why, cure = str(error) or type(error).__name__, f"Correct it, or remove it: {name!r}"
    if isinstance(error, ModuleNotFoundError) and (module := str(error.name)) == name.partition(".")[0]:
        cure = f"Install what has the module {module} here, or remove the line: {name!r}"
    return Problem(
        id="wsredis.E022",
        text=f"MIDDLEWARE has {name!r}, which cannot be imported: {why}. With it no page is served.",
        hint=cure,
    )


def _original(name: str, middleware: Any) -> str:
    """Return the name of Django's middleware from which this one is derived, or its own."""
    kinds = getattr(middleware, "__mro__", ())
    return next((full for kind in kinds if (full := f"{kind.__module__}.{kind.__qualname__}") in NEEDED), name)


def _receivers() -> Row:
    """Look at what has been connected so far: the apps are ready, and their URLs are imported."""
    asynchronous = [
        Problem(
            id="wsredis.W023",
            text=f"The receiver {receiver} of {signal} is async: in a worker with gevent each {signal} {LOOP}.",
            hint=f"Let it be an ordinary function, def {receiver.rpartition('.')[2]}(…)\n{THREADS}",
        )
        for signal, sent in _signals().items()
        for receiver in _asynchronous(sent)
    ]
    found = f"{len(asynchronous)} async" if asynchronous else "none is async"
    return Row(checked="receivers of signals", found=found, problems=tuple(asynchronous))


def _signals() -> dict[str, Signal]:
    """Return the signals that Django itself sends, by their names."""
    given = [requests, databases, models]
    if apps.is_installed("django.contrib.auth"):
        from django.contrib.auth import signals as users

        given.append(users)
    return {name: value for module in given for name, value in vars(module).items() if isinstance(value, Signal)}


def _asynchronous(signal: Signal) -> Iterator[str]:
    # what Django has noted of each: the key, the receiver, from 6.0 its sender, and at last whether it is async
    for _, receiver, *_, is_async in signal.receivers:
        function = receiver() if isinstance(receiver, ReferenceType) else receiver
        if is_async and function is not None:
            yield f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"
