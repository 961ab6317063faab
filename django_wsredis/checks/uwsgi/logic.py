"""uWSGI's conditions and loops: `if-env = X` … `endif`, `for = a b` … `endfor`. Asks for files, and the environment.

As in uWSGI each option in a block is judged for itself, and a block has no other one inside.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ENDS = ("end", "endif", "end-if", "endfor", "end-for")
CONDITION = re.compile(r"if-?(not-?)?(env|opt|exists|file|dir(?:ectory)?|reload|plugin|hostname(?:-match)?)")
LOOPS = ("for", "for-times", "for-glob", "for-readline")
HERE = "%(_)"  # in a value: what the condition found, or the round of a loop
MAX_ROUNDS = 1000
KINDS: dict[str, Callable[[int], bool]] = {"exists": lambda mode: True, "file": stat.S_ISREG, "dir": stat.S_ISDIR}


@dataclass(frozen=True, slots=True)
class Block:
    """What is between a condition, or a loop, and its end. folder: where uWSGI starts, None if that is not known."""

    name: str
    argument: str
    folder: Path | None

    @property
    def text(self) -> str:
        """The line, for people: a value may be a secret."""
        name, has_value, _ = self.argument.partition("=")
        return f"{self.name} = {name}{'=…' if has_value else ''}".rstrip()

    def values(self, value: str, options: Mapping[str, str]) -> list[str] | None:
        """Return what the value of an option in it becomes: [] where it does not count, None if that is not known.

        options: the first value of each before it.
        """
        if self.name in LOOPS:
            rounds = self._rounds()
            return None if rounds is None else [value.replace(HERE, each) for each in rounds]
        match = CONDITION.fullmatch(self.name)
        found = self._found(match[2] if match else "", options)
        if found is None:
            return None
        is_true, text = found
        if is_true == bool(match and match[1]):
            return []
        return [value.replace(HERE, text)]

    def _rounds(self) -> list[str] | None:
        if self.name == "for":
            return self.argument.split()
        if self.name == "for-times" and self.argument.strip().isdecimal():
            return [str(number) for number in range(1, min(int(self.argument), MAX_ROUNDS) + 1)]
        return None

    def _found(self, kind: str, options: Mapping[str, str]) -> tuple[bool, str] | None:
        """Tell whether something is there, and what then stands for HERE; None if that is not known."""
        if kind in ("env", "opt"):
            name, has_value, wanted = self.argument.partition("=")
            value = (os.environ if kind == "env" else options).get(name)
            if value is None:
                return False, HERE
            return not has_value or value == wanted, value
        if (test := KINDS.get(kind.removesuffix("ectory"))) is None:
            return None
        path = Path(self.argument) if self.folder is None else self.folder / self.argument
        if not path.is_absolute():
            return None
        try:
            return test(path.stat().st_mode), self.argument
        except (FileNotFoundError, NotADirectoryError):
            return False, self.argument
        except (OSError, ValueError):  # it may not be looked at
            return None


def begins(name: str) -> bool:
    """Tell whether an option begins a block."""
    return name in LOOPS or CONDITION.fullmatch(name) is not None
