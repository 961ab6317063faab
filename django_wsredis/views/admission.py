"""The handshake of a view, on a page's way: through the project's middleware and the view's decorators."""

from __future__ import annotations

import time
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import get_script_name
from django.core.signals import request_started, setting_changed
from django.http import HttpRequest, HttpResponse
from django.urls import ResolverMatch, set_script_prefix, set_urlconf

from .. import subprotocol
from ..authentication import request_of
from ..channels import Wish
from ..conf import Settings, get_settings
from ..exceptions import HandshakeError, Misconfigured, UpgradeRequired
from ..handshake import Accepted, Granted, database
from ..origin import check_origin
from ..packing import pack
from ..peer import peer_of
from ..project_code import call, import_setting
from ..routes import views_and_pages
from ..upgrade import negotiate, wants_stream
from .handler import Handler, Options

if TYPE_CHECKING:
    from django.http import HttpResponseBase

    from .sockets import ViewSocket


OPTIONS = "websocket_options"  # the attribute of a view that has its Options


class Upgrading(HttpResponse):
    """What a websocket view answers: the socket may be opened. Middleware sees it as any other response."""

    status_code = HTTPStatus.SWITCHING_PROTOCOLS

    def __init__(self, handler: Handler, socket: ViewSocket) -> None:
        super().__init__()
        self.handler = handler
        self.socket = socket


class Refused(HandshakeError):
    """Raised where middleware, a decorator or the view refused, with the status that it gave."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class ViewHandler(BaseHandler):
    """Django's handler of requests, for those whose view is known already."""

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        """Return the view. Called where all middleware has seen the request, and the view has not."""
        settings = get_settings()
        if settings.process_request is not None:
            try:
                call("PROCESS_REQUEST", import_setting("PROCESS_REQUEST", settings.process_request), request)
            except HandshakeError as error:
                raise PermissionDenied(str(error)) from error
        set_urlconf(request.urlconf)
        assert request.resolver_match is not None
        return request.resolver_match


def decide(environ: dict[str, Any], match: ResolverMatch, settings: Settings) -> Accepted:
    """Answer the handshake of a view. Blocks; leaves no connection to the database open.

    Raises HandshakeError or one of its kind, whose `status` is the answer.
    """
    began_at = time.monotonic()
    if wants_stream(environ):
        raise UpgradeRequired("a view takes websockets alone, and no event streams")
    negotiate(environ)  # before any code of the project's: is it one?
    request = request_of(environ)
    allowed_origins = getattr(match.func, OPTIONS, Options()).allowed_origins
    check_origin(request, required=settings.require_origin, allowed=allowed_origins)
    request.urlconf = views_and_pages()  # type: ignore[assignment]  # Django takes what has urlpatterns
    request.resolver_match = match
    set_script_prefix(get_script_name(environ))
    request_started.send(sender=ViewHandler, environ=environ)
    response = django_handler().get_response(request)
    try:
        if not isinstance(response, Upgrading):
            raise refusal(match, response)
        with database():  # the user may be read only now
            accepted = accept(environ, request, response, settings, began_at)
    finally:
        response.close()  # sends request_finished, which closes connections to the database
        set_urlconf(None)
    response.handler.settle(accepted.visitor)
    return accepted


def accept(
    environ: dict[str, Any], request: HttpRequest, response: Upgrading, settings: Settings, began_at: float
) -> Accepted:
    """Answer with the 101."""
    options = response.handler.options
    upgrade = negotiate(
        environ,
        subprotocols=settings.subprotocols if options.subprotocols is None else options.subprotocols,
        compress=settings.compression > 0,
        headers=[("Set-Cookie", cookie.OutputString()) for cookie in response.cookies.values()],
    )
    if upgrade.subprotocol is None and subprotocol.NAME in environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", ""):
        raise HandshakeError(f"a view does not speak {subprotocol.NAME}; wsredis.js needs the option protocols: []")
    response.socket.subprotocol = upgrade.subprotocol
    path = request.path_info.removeprefix(settings.websocket_url)
    nothing = Granted(path, (), (), Wish((), (), echo=False))
    return Accepted(upgrade, nothing, peer_of(request, path), pack(environ), began_at, response.handler)


def refusal(match: ResolverMatch, response: HttpResponseBase) -> HandshakeError:
    """Return why a handshake is refused, by the response that came instead of an upgrade."""
    status = response.status_code
    if 300 <= status < 400:  # as login_required does: no browser follows it with a websocket
        where = response.headers.get("Location", "")
        return Refused(HTTPStatus.FORBIDDEN, f"the view, or what guards it, redirects to {where!r}")
    if status >= 400:
        known = status if status in {one.value for one in HTTPStatus} else HTTPStatus.FORBIDDEN
        why = "" if status < 500 else "; is it one of django_wsredis.views? ./manage.py check tells"
        return Refused(HTTPStatus(known), f"the view, or what guards it, refused it with {status}{why}")
    return Misconfigured(f"{match.view_name} answered with a page ({status}): is it a websocket view?")


@cache
def django_handler() -> ViewHandler:
    """Return this process's handler, with the middleware that the settings name."""
    handler = ViewHandler()
    handler.load_middleware()
    return handler


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "MIDDLEWARE":
        django_handler.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_wsredis.views.admission")
