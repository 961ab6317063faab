"""What Django's middleware gave the thread of a handshake, for the threads in which its view runs later."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from datetime import tzinfo
from functools import lru_cache, partial
from typing import Any, TypeVar

from django.conf import settings
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

from .database import end_queries

T = TypeVar("T")


NO_VARIABLES = Context()


class Surroundings:
    """The language, time zone, URLconf, script name, and context variables, where this is made."""

    __slots__ = ("_steps", "_variables")

    def __init__(self) -> None:
        self._variables = own_variables()
        self._steps = steps(
            get_urlconf(),
            get_script_prefix(),
            timezone.get_current_timezone(),
            timezone.get_default_timezone(),
            translation.get_language(),
            settings.LANGUAGE_CODE,
        )

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function with them, and close the connections to the database after it as at the end of a request.

        What the function changes of them is gone with the call: it runs in a copy.
        """
        return self._variables.copy().run(self._run, function, *arguments)

    def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        for step in self._steps:
            step()
        try:
            return function(*arguments)
        finally:
            # not before it, too: a thread has none when it is new, and is soon gone when it has nothing to do
            end_queries()


def own_variables() -> Context:
    """Return the context variables of the project's.

    Without those in which asgiref's Local has what `steps()` is for: another thread does not see them, and they would
    take most of a kilobyte for each socket.
    """
    found = [(variable, value) for variable, value in copy_context().items() if variable.name != "asgiref.local"]
    if not found:
        return NO_VARIABLES
    context = Context()
    for variable, value in found:
        context.run(variable.set, value)
    return context


@lru_cache
def steps(
    urlconf: Any,
    script_prefix: str,
    zone: tzinfo,
    default_zone: tzinfo,
    language: str | None,
    default_language: str,
) -> tuple[Callable[[], object], ...]:
    """Return what sets in another thread what is not the default there: to set it all takes longer than most calls."""
    found: list[Callable[[], object]] = [partial(set_urlconf, urlconf)]
    if script_prefix != "/":
        found.append(partial(set_script_prefix, script_prefix))
    if zone is not default_zone:
        found.append(partial(timezone.activate, zone))
    if language is None:
        found.append(translation.deactivate_all)
    elif language != default_language:
        found.append(partial(translation.activate, language))
    return tuple(found)
