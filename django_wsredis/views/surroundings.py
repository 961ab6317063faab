"""What Django's middleware gave the thread of a handshake, for the threads in which its view runs later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from django.conf import settings
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

from .database import end_queries

T = TypeVar("T")


class Surroundings:
    """The language, time zone, URLconf, script name, and context variables, where this is made."""

    # asgiref's Local, in which Django keeps the first four, does not show them in another thread
    __slots__ = ("_context", "_set")

    def __init__(self) -> None:
        self._context = copy_context()
        self._set = tuple(differences())

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function with them, and close the connections to the database after it as at the end of a request.

        What the function changes of them is gone with the call: it runs in a copy.
        """
        return self._context.copy().run(self._run, function, *arguments)

    def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        for set_one in self._set:
            set_one()
        try:
            return function(*arguments)
        finally:
            # not before it, too: a thread has none when it is new, and is soon gone when it has nothing to do
            end_queries()


def differences() -> Iterator[Callable[[], object]]:
    """Yield what sets in another thread what is not the default here: to set all of it takes longer than most calls."""
    yield partial(set_urlconf, get_urlconf())
    if (prefix := get_script_prefix()) != "/":
        yield partial(set_script_prefix, prefix)
    if (zone := timezone.get_current_timezone()) is not timezone.get_default_timezone():
        yield partial(timezone.activate, zone)
    if (language := translation.get_language()) is None:
        yield translation.deactivate_all
    elif language != settings.LANGUAGE_CODE:
        yield partial(translation.activate, language)
