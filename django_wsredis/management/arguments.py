"""What the commands' options may be; argparse says what is wrong with another text."""

from __future__ import annotations

import math
import re
from argparse import ArgumentTypeError


def count(text: str) -> int:
    """Return a whole number above 0."""
    if not re.fullmatch("[0-9]+", text) or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def octal(text: str) -> int:
    """Return a umask, which is written as three octal digits."""
    if not re.fullmatch("0?[0-7]{3}", text):
        raise ArgumentTypeError(f"{text!r} is not an octal umask, such as 007 or 022")
    return int(text, 8)


def seconds(text: str) -> float:
    """Return a number of seconds, or 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number
