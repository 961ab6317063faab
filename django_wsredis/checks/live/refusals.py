"""What it means that a handshake fails: which layer broke it, and what mends that."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPException
from urllib.parse import urlsplit

from ...wording import sentence
from ..findings import Problem
from . import certificate, hints, location, unanswered
from .answers import HTTPAnswer, ask, ask_upgrade
from .rehearsal import rehearse
from .way import STEP_SECONDS, Way


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
        hint = (
            f"A proxy must pass on the headers of the answer: no proxy_hide_header, no Header unset.\n{hints.UPGRADE}"
        )
        return answer.shown, Problem(id="wsredis.E624", text=text, hint=hint)
    reader = (OURS if answer.is_ours else OTHERS).get(answer.status, _other)
    return answer.shown, reader(way, path, answer)


def _no_http(way: Way) -> Problem:
    if not way.is_secure and certificate.speaks_tls(way):
        return _tls_there(way)
    text = f"Site or proxy: {way.netloc} answers the handshake with nothing that is HTTP, or breaks off."
    hint = (
        f"What listens there? On its machine: ss -ltnp 'sport = :{way.port}'\n"
        f"If it is uWSGI's socket =, a browser needs http-socket = {way.host}:{way.port}, or a proxy with uwsgi_pass.\n"
        f"If it breaks off, by a rule, or as it fails:\n{hints.BOTH_LOGS}"
    )
    return Problem(id="wsredis.E624", text=text, hint=hint)


def _tls_there(way: Way) -> Problem:
    hint = f"Write --live wss://{way.netloc}{way.url.path}"
    return Problem(id="wsredis.E605", text=f"TLS: {way.netloc} speaks it, and the URL begins with ws.", hint=hint)


# Answers of ours


def _no_upgrade(way: Way, path: str, answer: HTTPAnswer) -> Problem:
    text = f"Proxy: the answer is {answer.shown}: the request arrives without its header Upgrade, or Connection."
    return Problem(id="wsredis.E612", text=text, hint=hints.UPGRADE)


def _unsound(way: Way, path: str, answer: HTTPAnswer) -> Problem:
    reason = rehearse(way, path, way.cookie)
    if reason is not None:
        hint = f"ALLOWED_HOSTS = [{way.host!r}, …]" if "ALLOWED_HOSTS" in str(reason) else hints.again(way)
        return Problem(id="wsredis.E616", text=sentence(f"Host: the answer is {answer.shown}: {reason}"), hint=hint)
    # The site looks at these first, and says 426: at the version, if that arrives; at the protocol, in HTTP/1.1 alone.
    if not _needs_upgrade(way, path, {"Sec-WebSocket-Version": "12"}):
        text = f"Proxy: the answer is {answer.shown}: the header Sec-WebSocket-Version does not arrive."
        hint = "NGiNX: proxy_set_header Sec-WebSocket-Version $http_sec_websocket_version;\n" + hints.BOTH_LOGS
    elif not _needs_upgrade(way, path, {"Upgrade": "wscheck"}):
        text, hint = f"Proxy: the answer is {answer.shown}: it speaks HTTP/1.0 with the site.", hints.UPGRADE
    else:
        text = f"Host: the answer is {answer.shown}: the proxy passes on another Host than {way.netloc!r}."
        hint = (
            f"{hints.HOST}\nIf that is so already, the site needs: ALLOWED_HOSTS = [{way.host!r}, …]\n"
            f"Or something takes out the header Sec-WebSocket-Key. {hints.SITE_LOG}"
        )
        return Problem(id="wsredis.E616", text=text, hint=hint)
    return Problem(id="wsredis.E612", text=text, hint=hint)


def _needs_upgrade(way: Way, path: str, headers: dict[str, str]) -> bool:
    """Tell whether a handshake with other headers is refused for them, by 426."""
    return ask_upgrade(way, path, way.origin, headers).status == 426


def _forbidden(way: Way, path: str, answer: HTTPAnswer) -> Problem:
    reason = rehearse(way, path, way.cookie)
    if ask_upgrade(way, path, None).status == 101:
        text = f"Origin: the answer is {answer.shown} to {way.origin}: the proxy passes on another Host than that."
        return Problem(id="wsredis.E617", text=text, hint=hints.HOST)
    if reason is not None:
        return Problem(
            id="wsredis.E619",
            text=sentence(f"Permission: the answer is {answer.shown}: {reason}"),
            hint=(f"{hints.ALLOWED}\nAs somebody who may: {hints.again(way, '--user NAME')}"),
        )
    if way.settings.require_origin and rehearse(way, path, "") is None:  # so it is not for the session
        text = f"Origin: the answer is {answer.shown} to {way.origin}: it does not arrive, or with another Host."
        return Problem(id="wsredis.E617", text=text, hint=f"{hints.ORIGIN}\n{hints.HOST}")
    if way.cookie:
        text = f"Session: the answer is {answer.shown}: here {way.user} may; the site does not know the session."
        return Problem(id="wsredis.E618", text=text, hint=hints.SESSION)
    text = f"Permission: the answer is {answer.shown}: by the settings and the code here it would be granted."
    hint = (
        f"With the settings and the code of the site: {hints.again(way)}\n"
        f"If these are that already: systemctl restart mysite\n{hints.SITE_LOG}"
    )
    return Problem(id="wsredis.E619", text=text, hint=hint)


def _unavailable(way: Way, path: str, answer: HTTPAnswer) -> Problem:
    readiness = ask(way, f"{way.base}-/readyz")
    if readiness.status == 200:
        layer, why = "Site or Redis", "the worker is full, or Redis refuses it this channel"
        hint = (
            "How many there are: ./manage.py wsinspect\n"
            "For more: WSREDIS = {'MAX_SOCKETS': 20_000, …}, and LimitNOFILE=40000 in the unit of the site.\n"
            "What Redis refuses: ./manage.py wscheck --only redis"
        )
    elif readiness.body == b"not ready\n":
        layer, why = "Redis", "the worker has none now (or it stops)"
        hint = "On its machine: ./manage.py wscheck --only redis"
    else:
        layer, why = "Site", "the server that runs it cannot give up its sockets"
        hint = "uWSGI: gevent = 100 or enable-threads = true, and no https-socket. docs/deploy.rst has what works."
    text = f"{layer}: the answer is {answer.shown}: {why}."
    return Problem(id="wsredis.E622", text=text, hint=f"{hint}\n{hints.SITE_LOG}")


# Those of others


def _redirected(way: Way, path: str, answer: HTTPAnswer) -> Problem:
    if problem := location.explain_prefix(way, answer):
        return problem
    where = answer.headers.get("location", "nowhere")
    if where.startswith("https://") and not way.is_secure:
        hint = f"Write --live wss://{urlsplit(where).netloc}{way.url.path}"
    else:
        url = way.settings.websocket_url
        hint = (
            "Websockets follow no redirection: what redirects pages (return, rewrite, a login) must leave them out.\n"
            f"NGiNX, beside the location that redirects: location {url} {{ proxy_pass http://127.0.0.1:8000; … }}\n"
            "All of it: ./manage.py wscheck --emit nginx, or apache\n"
            "If Django redirects, wsgi.py needs: from django_wsredis.wsgi import get_wsgi_application"
        )
    text = f"Location: the answer is {answer.shown}, to {where.partition('?')[0]}."
    return Problem(id="wsredis.E615", text=text, hint=hint)


def _refused_by_proxy(way: Way, path: str, answer: HTTPAnswer) -> Problem:
    seen = "the site has not seen it" if answer.author == "Proxy" else "what stands before the site refuses, or a page"
    text = f"Proxy: the answer is {answer.shown}: {seen}."
    hint = (
        f"What refuses: grep -rnE 'deny|auth_|Require|modsecurity' {hints.PROXY_FOLDERS}\n"
        "In the location of WEBSOCKET_URL: allow all; auth_basic off; auth_request off;\n"
        "Apache: Require all granted\n"
        f"Or with a login: --live {way.url.scheme}://NAME:PASSWORD@{way.netloc}{way.url.path}\n{hints.PROXY_LOG}"
    )
    return Problem(id="wsredis.E620", text=text, hint=hint)


def _bad_request(way: Way, path: str, answer: HTTPAnswer) -> Problem:
    if not way.is_secure and certificate.speaks_tls(way):  # NGiNX and Apache say so, in HTTP
        return _tls_there(way)
    if answer.author == "Proxy":
        return _not_taken(way, path, answer)
    text = f"Host: the answer is {answer.shown}, and not by django_wsredis: Django's pages refuse the Host so."
    hint = f"ALLOWED_HOSTS = [{way.host!r}, …]\n{hints.HOST}\nIf that is so already: {hints.PROXY_LOG}"
    return Problem(id="wsredis.E616", text=text, hint=hint)


def _not_taken(way: Way, path: str, answer: HTTPAnswer) -> Problem:
    said = f", and says {answer.reason!r}" if answer.reason else ""
    text = f"Proxy: the answer is {answer.shown}: it does not take the request{said}; the site has not seen it."
    if "certificate" in answer.reason:
        hint = f"NGiNX asks browsers for a certificate of theirs: ssl_verify_client off;\n{hints.PROXY_LOG}"
    else:
        hint = f"If cookies or the query are too large: NGiNX: large_client_header_buffers 4 16k;\n{hints.PROXY_LOG}"
    return Problem(id="wsredis.E620", text=text, hint=hint)


def _limited(way: Way, path: str, answer: HTTPAnswer) -> Problem:
    text = f"Proxy: the answer is {answer.shown}: it lets nobody in, or not so many: its limits, or a maintenance."
    hint = (
        f"What refuses: grep -rnE 'limit_(conn|req)|return (503|429)|deny_status' {hints.PROXY_FOLDERS}\n"
        "In the location of WEBSOCKET_URL it counts open sockets: limit_conn NAME 10000;\n"
        f"{hints.PROXY_LOG}"
    )
    return Problem(id="wsredis.E620", text=text, hint=hint)


def _no_site(way: Way, path: str, answer: HTTPAnswer) -> Problem:
    if answer.status == 503 and answer.is_nginxs:  # which says 502 where a site is away
        return _limited(way, path, answer)
    text = f"Proxy: the answer is {answer.shown}: it does not reach the site."
    hint = (
        "Look, in this order:\n"
        f"1. {hints.PROXY_LOG}\n"
        "2. Refused, or no such file: the site does not run, or listens elsewhere: ss -ltnxp\n"
        "   Start it: systemctl start mysite; and name its address: proxy_pass http://127.0.0.1:8000;\n"
        "3. Permission denied: the proxy may not open the unix socket: chgrp www-data, chmod 660\n"
        f"4. Closed prematurely, or no valid header: both must speak the same. {hints.PROTOCOLS}"
    )
    return Problem(id="wsredis.E621", text=text, hint=hint)


def _late(way: Way, path: str, answer: HTTPAnswer) -> Problem:
    return unanswered.explain(way, f"the answer is {answer.shown}: the proxy has waited for one")


def _other(way: Way, path: str, answer: HTTPAnswer) -> Problem:
    logs = {"Site": hints.SITE_LOG, "Proxy": hints.PROXY_LOG}.get(answer.author, hints.BOTH_LOGS)
    return Problem(id="wsredis.E624", text=f"{answer.author}: the answer is {answer.shown}.", hint=logs)


OURS: dict[int, Callable[[Way, str, HTTPAnswer], Problem]] = {
    400: _unsound,
    403: _forbidden,
    404: location.explain,
    426: _no_upgrade,
    503: _unavailable,
}
OTHERS: dict[int, Callable[[Way, str, HTTPAnswer], Problem]] = {
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
    414: _not_taken,
    426: _no_upgrade,
    429: _limited,
    431: _not_taken,
    502: _no_site,
    503: _no_site,
    504: _late,
}
