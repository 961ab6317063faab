"""Lines to write, and commands to run, that mend more than one problem."""

from __future__ import annotations

from .way import Way

UPGRADE = """In the location of WEBSOCKET_URL. NGiNX:
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
with, beside the server: map $http_upgrade $connection_upgrade { default upgrade; '' close; }
Apache: ProxyPass … upgrade=websocket. All of it: ./manage.py wscheck --emit nginx, apache or haproxy"""

HOST = """NGiNX: proxy_set_header Host $http_host; with uwsgi_pass: uwsgi_param HTTP_HOST $http_host if_not_empty;
Apache: ProxyPreserveHost On   HAProxy: no http-request set-header Host
All of it: ./manage.py wscheck --emit nginx, or apache"""

ORIGIN = "A proxy must pass the header on. NGiNX: proxy_set_header Origin $http_origin;"

SESSION = """The site needs what is here: SECRET_KEY, DATABASES, and SESSION_ENGINE, SESSION_COOKIE_NAME.
Compare, on both: ./manage.py diffsettings | grep SESSION_
A proxy must pass the cookie on. NGiNX: proxy_set_header Cookie $http_cookie;
WSREDIS['PROCESS_REQUEST'], if it is set, must look at sessions."""

ALLOWED = "The function of WSREDIS['ALLOWED_CHANNELS'] decides: def allowed(request, channels): return channels"

PROTOCOLS = "uwsgi_pass is for uWSGI's socket =; proxy_pass for what speaks HTTP: http-socket =, gunicorn, runwsserver."

SITE_LOG = "The site's log has the reason: journalctl -u mysite -e"
PROXY_LOG = "The proxy's log has the reason: tail /var/log/{nginx,apache2}/error.log /var/log/haproxy.log"
PROXY_FOLDERS = "/etc/nginx /etc/apache2 /etc/haproxy"
BOTH_LOGS = f"{SITE_LOG}\n{PROXY_LOG}"


def again(way: Way, options: str = "") -> str:
    """Return the command that goes the same way, with further options."""
    return f"./manage.py wscheck --live {way.shown} {options}".rstrip()


def nearer(way: Way) -> str:
    """Return how to find out which of several proxies it is."""
    return (
        "Leave out one proxy after the other; the first without which all is well has the fault. The site alone:\n"
        f"./manage.py wscheck --only live --live ws://127.0.0.1:8000{way.settings.websocket_url}"
    )
