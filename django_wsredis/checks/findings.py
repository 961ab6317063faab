"""What a check finds: rows of what was looked at, and the problems that it has."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

LEVELS = {"E": "error", "W": "warning", "I": "info"}  # by the letter of a problem's id
RANKS = {level: rank for rank, level in enumerate(LEVELS.values())}  # the worst first

# what is said of a file that wscheck may not read, and what to do
DENIED = os.strerror(errno.EACCES)
LOCKED = "Run wscheck as a user who may read it, or as root; or name another file."


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is wrong: the sentence names the offending value, the hint the line to write, or the command.

    id: `wsredis.E201`, stable. place: the file and line, `/etc/nginx/site.conf:12`, where there is one.
    """

    id: str
    text: str
    hint: str
    place: str = ""

    @property
    def level(self) -> str:
        """One of LEVELS."""
        return LEVELS[self.id.removeprefix("wsredis.")[0]]

    @property
    def rank(self) -> int:
        """The place of its level, the worst first."""
        return RANKS[self.level]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Something that was looked at: `PING`, `0.11 ms, median of 20`. Or that was not, and why: then `is_skipped`."""

    checked: str
    found: str
    problems: tuple[Problem, ...] = ()
    is_skipped: bool = False

    @property
    def verdict(self) -> str:
        """`ok`, the worst level of its problems, or `not checked`."""
        if self.is_skipped:
            return "not checked"
        return min(self.problems, key=lambda problem: problem.rank).level if self.problems else "ok"


def skipped(checked: str, why: str) -> Row:
    """Return the row for something that could not be looked at."""
    return Row(checked=checked, found=why, is_skipped=True)
