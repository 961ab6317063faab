"""What Django's middleware gave the thread of a handshake, for the threads in which its view runs later."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

from django.db import close_old_connections, reset_queries
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

T = TypeVar("T")


class Surroundings:
    """The language, time zone, URLconf, script name, and context variables, where this is made."""

    # asgiref's Local, in which Django keeps the first four, does not show them in another thread
    __slots__ = ("_context", "_language", "_script_prefix", "_timezone", "_urlconf")

    def __init__(self) -> None:
        self._context = copy_context()
        self._language = translation.get_language()
        self._timezone = timezone.get_current_timezone()
        self._urlconf = get_urlconf()
        self._script_prefix = get_script_prefix()

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function with them, and with connections to the database as at the beginning of a request."""
        return self._context.run(self._run, function, *arguments)

    def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        reset_queries()
        close_old_connections()
        set_urlconf(self._urlconf)
        set_script_prefix(self._script_prefix)
        try:
            with timezone.override(self._timezone), translation.override(self._language):
                return function(*arguments)
        finally:
            close_old_connections()
