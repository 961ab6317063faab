"""Texts for people."""

from __future__ import annotations

import pytest

from django_wsredis.wording import of_them, sentence


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("socket",), "0 sockets"),
        (1, ("socket",), "1 socket"),
        (2000, ("socket",), "2,000 sockets"),
        (1, ("child", "children"), "1 child"),
        (2, ("worker lives", "workers live"), "2 workers live"),
    ],
)
def test_a_number_of_things(count: int, words: tuple[str, ...], text: str) -> None:
    assert of_them(count, *words) == text


@pytest.mark.parametrize("text", ["It is away.", "Is it there?", "No!"])
def test_a_sentence_gets_no_second_end(text: str) -> None:
    assert sentence(text) == text
    assert sentence("It is away") == "It is away."
