"""What it means that Redis refuses a command."""

from __future__ import annotations

import re
from typing import Any

from hiredis import ReplyError

# The first words of replies which say that a command is to be sent elsewhere, or later.
_ELSEWHERE = {"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "MASTERDOWN", "LOADING", "UNBLOCKED"}
# Those which say that the server carries out nothing of the kind, as long as it is in this state.
_TRANSIENT = {"NOREPLICAS", "MISCONF", "OOM", "BUSY"}


def is_elsewhere(error: ReplyError) -> bool:
    """Tell whether a refusal means that the channel's master is another server now, or none yet."""
    return _code(error) in _ELSEWHERE


def is_transient(error: ReplyError) -> bool:
    """Tell whether a refusal means that the same server may carry out the same command later."""
    return _code(error) in _TRANSIENT


def _code(error: ReplyError) -> str:
    text = str(error)
    in_script = re.search(r": -([A-Z]+) ", text)  # how Redis 6 words what a script was refused
    return in_script[1] if in_script else text.partition(" ")[0]


def ignore(reply: Any) -> None:
    """Take a reply that says nothing of use."""
