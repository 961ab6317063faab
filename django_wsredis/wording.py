"""Texts for people: how many there are of something, and where a sentence ends."""

from __future__ import annotations


def of_them(count: int, one: str, several: str = "") -> str:
    """Return a number of things: `1 socket`, `12 sockets`, `1 child`, `2,000 children`."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def sentence(text: str) -> str:
    """Return a text that ends as a sentence does; errors of others end with a dot, with a question mark, or without."""
    return text if text.endswith((".", "?", "!")) else f"{text}."
