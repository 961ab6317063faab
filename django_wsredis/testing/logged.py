"""What a server in this process logs of a handshake that it refuses: the client is told the status alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

LOGGERS = ("django_wsredis", "django.request", "django.security")


@contextmanager
def meanwhile() -> Iterator[list[str]]:
    """Return a list to which each warning, and each error with its exception, is added while the `with` lasts."""
    lines: list[str] = []
    handler = _Handler(lines)
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
    try:
        yield lines
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(handler)


def about(lines: Sequence[str], path: str) -> str:
    """Return what was logged of a path; all of it where that is named nowhere, as with several sockets at once."""
    return "; ".join([line for line in lines if path in line] or lines)


class _Handler(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if record.exc_info and (error := record.exc_info[1]):
            line += f" {type(error).__name__}: {error}"
        self._lines.append(line)
