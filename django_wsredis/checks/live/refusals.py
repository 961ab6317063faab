"""What it means that a handshake fails: which layer broke it, and what mends that."""

from __future__ import annotations

import io
from collections.abc import Callable
from http.client import HTTPException
from urllib.parse import unquote
from wsgiref.util import setup_testing_defaults

from ... import handshake
from ...exceptions import HandshakeError
from ...wording import sentence
from ..findings import Problem
from . import certificate, location, unanswered
from .answers import Answer, ask, ask_upgrade
from .way import STEP_SECONDS, Way

UPGRADE_LINES = """In the location of WEBSOCKET_URL. NGiNX:
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
with, beside the server: map $http_upgrade $connection_upgrade { default upgrade; '' close; }
Apache: ProxyPass … upgrade=websocket. All of it: ./manage.py wscheck --emit nginx, apache or haproxy"""
HOST_LINES = """NGiNX: proxy_set_header Host $http_host; with uwsgi_pass: uwsgi_param HTTP_HOST $http_host if_not_empty;
Apache: ProxyPreserveHost On
All of it: ./manage.py wscheck --emit nginx, or apache."""
LOG = "The site's log has a line for it, with the reason."


def explain(way: Way, path: str, error: Exception) -> tuple[str, Problem]:
    """Return what was found, and the problem. path: what was asked for, with its query."""
    if isinstance(error, TimeoutError):
        found = f"no answer in {STEP_SECONDS:g} s"
        return found, unanswered.explain(way, f"{found} to the handshake")
    try:
        answer = ask_upgrade(way, path, way.origin)
    except TimeoutError:
        return explain(way, path, TimeoutError())
    except (OSError, HTTPException):
        return "no HTTP answer", _no_http(way)
    if answer.status == 101:  # what the websockets package says of it
        text = sentence(f"Proxy: the answer is 101, and not right: {error}")
        return answer.shown, Problem(id="wsredis.E624", text=text, hint=UPGRADE_LINES)
    reader = (OURS if answer.is_ours else OTHERS).get(answer.status, _other)
    return answer.shown, reader(way, path, answer)


def _no_http(way: Way) -> Problem:
    if not way.is_secure and certificate.speaks_tls(way):
        return _tls_there(way)
    text = f"{way.netloc} answers the handshake with nothing that is HTTP, or breaks off."
    hint = "What listens there? It may be the uwsgi protocol (socket = …): a browser needs http-socket, or a proxy."
    return Problem(id="wsredis.E624", text=text, hint=hint)


def _tls_there(way: Way) -> Problem:
    hint = f"Write wss://{way.netloc}{way.url.path}"
    return Problem(id="wsredis.E605", text=f"TLS: {way.netloc} speaks it, and the URL begins with ws.", hint=hint)


# Answers of ours


def _no_upgrade(way: Way, path: str, answer: Answer) -> Problem:
    text = f"Proxy: the answer is {answer.shown}: the request arrives without its header Upgrade, or Connection."
    return Problem(id="wsredis.E612", text=text, hint=UPGRADE_LINES)


def _unsound(way: Way, path: str, answer: Answer) -> Problem:
    reason = rehearse(way, path)
    if reason is not None:
        hint = f"ALLOWED_HOSTS = [{way.host!r}, …]" if "ALLOWED_HOSTS" in str(reason) else "Correct the URL."
        return Problem(id="wsredis.E616", text=sentence(f"Host: the answer is {answer.shown}: {reason}"), hint=hint)
    # The site looks at these first, and says 426: at the version, if that arrives; at the protocol, in HTTP/1.1 alone.
    if not _needs_upgrade(way, path, {"Sec-WebSocket-Version": "12"}):
        text = f"Proxy: the answer is {answer.shown}: the header Sec-WebSocket-Version does not arrive."
        hint = f"Look for what takes headers out: proxy_set_header Sec-WebSocket-Version '', a firewall, a cache. {LOG}"
    elif not _needs_upgrade(way, path, {"Upgrade": "wscheck"}):
        text, hint = f"Proxy: the answer is {answer.shown}: the proxy speaks HTTP/1.0 with the site.", UPGRADE_LINES
    else:
        text = f"Host: the answer is {answer.shown}: the proxy passes on another Host than {way.netloc!r}."
        hint = (
            f"{HOST_LINES}\nIf that is so already: the ALLOWED_HOSTS of the site are others than here; or something "
            f"takes out the header Sec-WebSocket-Key. {LOG}"
        )
    return Problem(id="wsredis.E616", text=text, hint=hint)


def _needs_upgrade(way: Way, path: str, headers: dict[str, str]) -> bool:
    """Tell whether a handshake with other headers is refused for them, by 426."""
    return ask_upgrade(way, path, way.origin, headers).status == 426


def _forbidden(way: Way, path: str, answer: Answer) -> Problem:
    reason = rehearse(way, path)
    if ask_upgrade(way, path, None).status == 101:
        text = f"Origin: the answer is {answer.shown} to {way.origin}: the proxy passes on another Host than that."
        return Problem(id="wsredis.E617", text=text, hint=HOST_LINES)
    if reason is not None:
        return Problem(
            id="wsredis.E619",
            text=sentence(f"Permission: the answer is {answer.shown}: {reason}"),
            hint="WSREDIS['ALLOWED_CHANNELS'] decides; with --user NAME somebody who may is asked for.",
        )
    if way.cookie:
        text = f"Session: the answer is {answer.shown}: here {way.user} may; the site does not know the session."
        return Problem(id="wsredis.E618", text=text, hint=SESSION_HINT)
    text = f"Permission: the answer is {answer.shown}: by the settings and the code here it would be granted."
    hint = f"Run wscheck with the settings and the code of the site. {LOG}"
    return Problem(id="wsredis.E619", text=text, hint=hint)


SESSION_HINT = (
    "The site has another SECRET_KEY, SESSION_ENGINE, SESSION_COOKIE_NAME or database than the settings here; or a "
    "proxy takes out the header Cookie; or WSREDIS['PROCESS_REQUEST'] does not look at sessions."
)


def _unavailable(way: Way, path: str, answer: Answer) -> Problem:
    readiness = ask(way, f"{way.base}-/readyz")
    if readiness.status == 200:
        why, hint = (
            "the worker is full, or Redis refuses it this channel",
            "Raise WSREDIS['MAX_SOCKETS'], or LimitNOFILE=.",
        )
    elif readiness.body == b"not ready\n":
        why, hint = "Redis: the worker has none now (or it stops)", "On its machine: ./manage.py wscheck --only redis"
    else:
        why = "the server that runs it cannot give up its sockets"
        hint = "uWSGI: gevent = 100 or enable-threads = true, and no https-socket. docs/deploy.rst has what works."
    text = f"Site: the answer is {answer.shown}: {why}."
    return Problem(id="wsredis.E622", text=text, hint=f"{hint}\n{LOG}")


def rehearse(way: Way, path: str) -> HandshakeError | None:
    """Decide here on the handshake, by the settings and the code here; return why it is refused, None if it is not."""
    target, _, query = path.partition("?")
    environ = {
        "PATH_INFO": way.settings.websocket_url + unquote(target.removeprefix(way.base), "latin-1"),
        "QUERY_STRING": query,
        "HTTP_HOST": way.netloc,
        "HTTP_ORIGIN": way.origin,
        "HTTP_COOKIE": way.cookie,
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_UPGRADE": "websocket",
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
        "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",  # of RFC 6455, 1.3
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "https" if way.is_secure else "http",
        "wsgi.input": io.BytesIO(),
    }
    setup_testing_defaults(environ)
    try:
        handshake.decide(environ, way.settings)
    except HandshakeError as error:
        return error
    except Exception as error:  # of whatever keeps sessions; at the site it is a 500
        return HandshakeError(f"it cannot be decided here: {type(error).__name__}")
    return None


# Those of others


def _redirected(way: Way, path: str, answer: Answer) -> Problem:
    if problem := location.explain_prefix(way, answer):
        return problem
    where = answer.headers.get("location", "nowhere")
    if where.startswith("https://") and not way.is_secure:
        hint = f"Write wss://{way.host}{way.url.path}"
    else:
        hint = (
            "Websockets follow no redirection: exempt WEBSOCKET_URL from it (return 301, SECURE_SSL_REDIRECT, a login)."
        )
    text = f"Location: the answer is {answer.shown}, to {where.partition('?')[0]}."
    return Problem(id="wsredis.E615", text=text, hint=hint)


def _refused_by_proxy(way: Way, path: str, answer: Answer) -> Problem:
    text = f"Proxy: the answer is {answer.shown}: not the site refuses, but what stands before it, or a page."
    hint = (
        "Look for allow, deny, auth_basic, auth_request or a firewall in the location of WEBSOCKET_URL, and at its log."
    )
    return Problem(id="wsredis.E620", text=text, hint=hint)


def _bad_request(way: Way, path: str, answer: Answer) -> Problem:
    if not way.is_secure and certificate.speaks_tls(way):  # NGiNX and Apache say so, in HTTP
        return _tls_there(way)
    text = f"Host: the answer is {answer.shown}, and not by django_wsredis."
    hint = f"Django's pages refuse a Host that is not in ALLOWED_HOSTS: {way.host!r}? A proxy's log has its own reason."
    return Problem(id="wsredis.E616", text=text, hint=hint)


def _no_site(way: Way, path: str, answer: Answer) -> Problem:
    text = f"Proxy: the answer is {answer.shown}: it does not reach the site."
    hint = (
        "Does the site run, and listen where the proxy looks (ss -ltnx)? May the proxy open the unix socket? Do both "
        "speak the same: uwsgi_pass to uWSGI's socket =, proxy_pass to http-socket =? The proxy's error log says which."
    )
    return Problem(id="wsredis.E621", text=text, hint=hint)


def _late(way: Way, path: str, answer: Answer) -> Problem:
    return unanswered.explain(way, f"the answer is {answer.shown}: the proxy has waited for one")


def _other(way: Way, path: str, answer: Answer) -> Problem:
    text = f"The answer is {answer.shown}."
    return Problem(id="wsredis.E624", text=text, hint=f"{LOG} So has the proxy's error log.")


OURS: dict[int, Callable[[Way, str, Answer], Problem]] = {
    400: _unsound,
    403: _forbidden,
    404: location.explain,
    426: _no_upgrade,
    503: _unavailable,
}
OTHERS: dict[int, Callable[[Way, str, Answer], Problem]] = {
    200: location.explain,
    301: _redirected,
    302: _redirected,
    303: _redirected,
    307: _redirected,
    308: _redirected,
    400: _bad_request,
    401: _refused_by_proxy,
    403: _refused_by_proxy,
    404: location.explain,
    405: location.explain,
    407: _refused_by_proxy,
    426: _no_upgrade,
    502: _no_site,
    503: _no_site,
    504: _late,
}
