"""Who sends a handshake: Django's request, with its session and user."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import BadRequest, ImproperlyConfigured
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from . import sessions
from .exceptions import HandshakeError, NotAuthorized
from .project_code import call, import_setting


def request_of(environ: dict[str, Any]) -> WSGIRequest:
    """Return Django's request of a handshake. Raises HandshakeError."""
    try:
        return WSGIRequest(environ)
    except (BadRequest, LookupError, ValueError) as error:  # for its Content-Type
        raise HandshakeError(f"Django cannot read the request: {error}") from error


def authenticate(request: HttpRequest, process_request: Any) -> None:
    """Give the request its session and user, as the project's settings say; or let PROCESS_REQUEST do it."""
    if process_request is not None:
        call("PROCESS_REQUEST", import_setting("PROCESS_REQUEST", process_request), request)
        return
    # Django's own middleware, without the rest of the chain: a handshake has no response that it could change
    if sessions.are_there():
        SessionMiddleware(_no_response).process_request(request)
        request.session.keys()  # reads the session: a key that names none is dropped here
        if request.session.modified:  # but by signed_cookies, which begins a new session and keeps the wrong key
            request.session = type(request.session)()
        # After a rotation of SECRET_KEY Django would rename the session: no response can bring the browser the new key.
        request.session.cycle_key = lambda: None  # type: ignore[method-assign]
    if apps.is_installed("django.contrib.auth"):
        from django.contrib.auth.middleware import AuthenticationMiddleware  # has models: only if they are installed

        AuthenticationMiddleware(_no_response).process_request(request)
        request.user.is_authenticated  # noqa: B018  the user is lazy; read it here, where errors are caught


class _CsrfCheck(CsrfViewMiddleware):
    """Django's own check, whose refusal is a text: the project's page for it is for people."""

    def _reject(self, request: HttpRequest, reason: str) -> str:
        return reason


def check_csrf(request: HttpRequest) -> None:
    """Refuse a POST without the token that Django gave the visitor, whatever middleware the project has.

    Raises NotAuthorized.
    """
    check = _CsrfCheck(_no_response)
    try:
        check.process_request(request)
        refusal = check.process_view(request, _no_response, (), {})
    except ImproperlyConfigured as error:  # CSRF_USE_SESSIONS without sessions
        raise NotAuthorized(f"the CSRF token cannot be checked: {error}") from error
    if refusal is not None:
        raise NotAuthorized(f"the CSRF token is not right, see docs/javascript.rst: {refusal}")


def _no_response(request: HttpRequest) -> HttpResponse:
    raise AssertionError("only process_request() of the middleware is called")
