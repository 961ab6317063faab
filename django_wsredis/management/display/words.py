"""Numbers as short words, as wide as a column of a table allows; and texts that do nothing to a terminal."""

from __future__ import annotations

from collections.abc import Sequence

AGES = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def duration(seconds: float | None) -> str:
    """Return a duration in its largest unit: `3s`, `12m`, `5h`, `2d`."""
    if seconds is None:
        return ""
    for unit_seconds, unit in AGES:
        if seconds >= unit_seconds:
            return f"{seconds // unit_seconds:.0f}{unit}"
    return "0s"


def milliseconds(amount: float | None) -> str:
    """Return a short time: `0.42ms`, `12ms`, `1.2s`."""
    if amount is None:
        return ""
    if amount >= 1000:
        return f"{amount / 1000:.1f}s"
    return f"{amount:.2f}ms" if amount < 10 else f"{amount:.0f}ms"


def size(count: int | None) -> str:
    """Return a number of bytes in its largest unit, of 1024 of the one before: `0`, `120B`, `1.5K`, `81M`."""
    if count is None or count == 0:
        return "" if count is None else "0"
    return _short(count, ("B", "K", "M", "G", "T"), 1024)


def rate(per_second: float | None) -> str:
    """Return how many there are in a second: `0`, `0.4`, `12`, `1.2k`, `12k`."""
    return "" if per_second is None else _short(per_second, ("", "k", "M", "G"), 1000)


def _short(amount: float, units: Sequence[str], step: int) -> str:
    power = 0
    while amount >= 999.5 and power < len(units) - 1:
        amount /= step
        power += 1
    return f"{amount:.1f}".removesuffix(".0") + units[power] if amount < 9.95 else f"{amount:.0f}{units[power]}"


def number(count: int | None) -> str:
    """Return a number with its thousands apart."""
    return "" if count is None else f"{count:,}"


def worker_name(name: str, width: int) -> str:
    """Return a worker's name, `host:pid`, in a fifth of a terminal's width: of a long host's the middle is left out."""
    host, _, pid = name.rpartition(":")
    room = max(16, width // 5) - len(f":{pid}")
    if len(host) > room:
        host = f"{host[: (room - 1) // 2]}…{host[len(host) - room // 2 :]}"
    return f"{host}:{pid}"


def printable(text: str) -> str:
    """Return a text in one line that does nothing to a terminal: what is not printable is escaped."""
    return "".join(c if c.isprintable() else "⏎" if c == "\n" else c.encode("unicode_escape").decode() for c in text)
