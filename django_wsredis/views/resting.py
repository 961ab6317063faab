"""The request of a socket between two calls of its view: small, and without what may be old by the next one.

10,000 sockets hold as many requests, mostly for nothing.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from django.contrib.sessions.backends.base import UpdateError
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject, empty

from ..packing import unpack

NO_BODY = io.BytesIO()  # of a handshake

# what a request works out from its environ when it is first asked
WORKED_OUT = ("COOKIES", "GET", "POST", "headers", "accepted_types", "accepted_types_by_precedence")


class PackedEnviron(Mapping[str, Any]):
    """A request's environ, as `packing.pack()` left it, unpacked while it is needed."""

    __slots__ = ("_found", "_packed")

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._found: dict[str, Any] | None = None

    def rest(self) -> None:
        """Forget what was unpacked."""
        self._found = None

    @property
    def _environ(self) -> dict[str, Any]:
        if self._found is None:
            self._found = unpack(self._packed)
        return self._found

    def __getitem__(self, key: str) -> Any:
        return self._environ[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)


def take_over(request: HttpRequest, environ: Mapping[str, Any]) -> None:
    """Have a request live on after its handshake, without what is the server's: uWSGI empties the dict that it gave."""
    slim: Any = request
    slim.META = slim.environ = environ
    slim._stream = NO_BODY
    if slim.resolver_match is not None:
        slim.resolver_match.tried = None
    for name in WORKED_OUT:
        slim.__dict__.pop(name, None)


def save_session(request: HttpRequest) -> None:
    """Save the session if the view has changed it, as middleware does after a page."""
    session: Any = getattr(request, "session", None)
    if session is not None and session.modified:
        with suppress(UpdateError):  # it has ended meanwhile, and the socket is about to
            session.save()
        session.modified = False


def rest(request: HttpRequest) -> None:
    """Save the session; forget it, the user, and what was worked out."""
    save_session(request)
    slim: Any = request
    if hasattr(slim, "session"):
        slim.session.__dict__.pop("_session_cache", None)
    if slim.__dict__.pop("_cached_user", None) is not None and isinstance(slim.user, SimpleLazyObject):
        slim.user._wrapped = empty  # as Django's AuthenticationMiddleware left it
    for name in WORKED_OUT:
        slim.__dict__.pop(name, None)
    if isinstance(slim.META, PackedEnviron):
        slim.META.rest()
