"""Who answers at WEBSOCKET_URL, if that takes no websocket: the site by another path, its pages, or somebody else."""

from __future__ import annotations

from http.client import HTTPException

from ..findings import Problem
from .answers import HTTPAnswer, ask
from .hints import PROXY_FOLDERS
from .way import Way

HEALTH = "-/healthz"  # below WEBSOCKET_URL a worker answers it, and nobody else as it does

KEEP_PREFIX = """The prefix stands on both sides, or on none. NGiNX: proxy_pass http://site; with no slash behind it.
Apache: ProxyPass "/ws/" "http://127.0.0.1:8000/ws/"   HAProxy: no http-request replace-path
All of it: ./manage.py wscheck --emit nginx, or apache"""


def explain(way: Way, path: str, answer: HTTPAnswer) -> Problem:
    """Return the problem that something else answers than a facility."""
    said = f"the answer is {answer.shown}"
    url = way.settings.websocket_url
    if _is_worker(way, url + HEALTH):
        text = f"Location: {said}, while {url}{HEALTH} is answered by a worker: websockets are led elsewhere."
        hint = f"Take out the rule, by the header or by a path: grep -rniE 'upgrade|{url}' {PROXY_FOLDERS}"
        return _wrong(text, hint)
    if problem := explain_prefix(way, answer):
        return problem
    if answer.is_ours or answer.is_djangos:
        text = f"Location: {said}: Django answers there, and takes no websockets at {url!r}."
        hint = (
            "In wsgi.py: from django_wsredis.wsgi import get_wsgi_application\n"
            f"In the settings of the site, as here: WEBSOCKET_URL = {url!r}"
        )
        return _wrong(text, hint)
    return _wrong(f"Location: {said}: it is somebody else who answers below {url}.", _location_of(way))


def explain_prefix(way: Way, answer: HTTPAnswer) -> Problem | None:
    """Return the problem that a proxy strips the prefix, so that a page answers, or where Django knows one."""
    url = way.settings.websocket_url
    stripped = _stripped(way, url)
    if not stripped:
        return None
    said = f"the answer is {answer.shown}"
    text = f"Prefix: {said}: a proxy strips {stripped!r}, and the site sees no path below WEBSOCKET_URL, {url!r}."
    return Problem(id="wsredis.E614", text=text, hint=KEEP_PREFIX)


def explain_stranger(way: Way) -> Problem | None:
    """Return the problem that another server than ours has taken the websocket."""
    health = way.base + HEALTH
    answer = ask(way, health)
    if answer.is_healthy or answer.status in (401, 403):  # in the latter case a proxy hides it
        return None
    text = f"Location: what takes the websocket is no worker of django_wsredis: it does not answer {health} as one."
    return _wrong(text, _location_of(way))


def _location_of(way: Way) -> str:
    url = way.settings.websocket_url
    return (
        f"Let a location for it lead to the site. NGiNX, in the server with server_name {way.host};\n"
        f"    location {url} {{ proxy_pass http://127.0.0.1:8000; … }}\n"
        f'Apache: ProxyPass "{url}" "http://127.0.0.1:8000{url}" upgrade=websocket\n'
        f"HAProxy: use_backend site if {{ path_beg {url} }}"
    )


def _wrong(text: str, hint: str) -> Problem:
    return Problem(id="wsredis.E613", text=text, hint=f"{hint}\nAll of it: ./manage.py wscheck --emit nginx, or apache")


def _stripped(way: Way, url: str) -> str:
    """Return what a proxy takes off a path; "" for nothing.

    With the prefix twice one is left, and a worker answers: of `/ws/ws/` if `/ws/` becomes `/`, of `/wsws/` if it is
    `/ws` that does.
    """
    if _is_worker(way, url + url[1:] + HEALTH):
        return url
    bare = url.rstrip("/")
    return bare if _is_worker(way, bare + url[1:] + HEALTH) else ""


def _is_worker(way: Way, path: str) -> bool:
    try:
        return ask(way, path).is_healthy
    except (OSError, HTTPException):  # whoever is there does not answer such a path
        return False
