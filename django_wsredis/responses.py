"""The few plain answers that are ours and not the project's."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

TEXT = "text/plain; charset=utf-8"


def respond(
    environ: WSGIEnvironment,
    start_response: StartResponse,
    status: HTTPStatus,
    body: bytes = b"",
    *,
    content_type: str = TEXT,
    headers: Sequence[tuple[str, str]] = (),
) -> list[bytes]:
    """Answer a request with a short body, by default the status itself, that nobody may cache; HEAD gets no body."""
    line = f"{status.value} {status.phrase}"
    body = body or f"{line}\n".encode()
    own = [("Content-Type", content_type), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    start_response(line, [*own, *headers])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
