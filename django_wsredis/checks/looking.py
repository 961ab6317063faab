"""Looking, whatever happens: a check that fails is a row that says so, and ends nobody's command."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Protocol

from .findings import Row, skipped
from .situation import Situation

logger = logging.getLogger("django_wsredis.checks")


class Module(Protocol):
    """What has checks."""

    TITLES: dict[str, str]

    def look(self, situation: Situation) -> Iterator[Row]:
        """Look at something."""


def rows_of(modules: Iterable[Module], situation: Situation) -> Iterator[Row]:
    """Yield the rows of modules; for one that fails a last row."""
    for module in modules:
        try:
            yield from module.look(situation)
        except Exception as error:  # of ours, or whatever a project's module raises
            logger.debug("A check failed.", exc_info=True)
            yield skipped("the rest", f"a check failed: {type(error).__name__}; please tell its authors")
