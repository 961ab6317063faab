"""The room that a uWSGI has for the headers of a request, against what a handshake of this site may have."""

from __future__ import annotations

from .. import cookies
from ..findings import Problem, Row, skipped
from .reading import OptionList

DEFAULT_BYTES = 4096
MOST_BYTES = 32768  # that is printed by `wscheck --emit uwsgi`
# Without cookies a handshake of Chromium has 932 bytes behind NGiNX' uwsgi_pass, as uwsgi's protocol has it, with a
# short host and a short path (measured by tests/test_wscheck_buffer.py); the rest is for longer ones, and what more
# proxies add.
HANDSHAKE_BYTES = 1400
SEPARATOR_BYTES = len("; ")


def row(conf: OptionList) -> Row:
    """Compare the size with the sum of all that the site's browsers may send."""
    size, option = conf.number("buffer-size", DEFAULT_BYTES), conf.get("buffer-size")
    told = f"{size} bytes" if option else f"{size} bytes, by default"
    try:
        parts = cookies.largest()
    except Exception as error:  # whatever the project's modules raise; Django's own check tells it
        return skipped("buffer-size", f"{told}; the cookies of this site are not known: {error}")
    needed = HANDSHAKE_BYTES + sum(parts.values()) + SEPARATOR_BYTES * max(0, len(parts) - 1)
    summed = ", ".join(f"{name} {count}" for name, count in {"headers": HANDSHAKE_BYTES, **parts}.items())
    found = f"{told}; a handshake of this site may have {needed}: {summed}"
    if size >= needed:
        return Row(checked="buffer-size", found=found)
    problem = Problem(
        id="wsredis.W325",
        text=f"buffer-size is {told}, and a handshake of this site may have {needed} ({summed}): "
        "such a visitor's requests are dropped.",
        hint=f"buffer-size = {MOST_BYTES}",
        place=option.place if option else "",
    )
    return Row(checked="buffer-size", found=found, problems=(problem,))
