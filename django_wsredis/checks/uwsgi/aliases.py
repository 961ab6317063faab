"""Names of uWSGI's options that mean the same: it has several for most."""

from __future__ import annotations

# names of one option → the one that is used here
ALIASES = {
    "workers": "processes",
    "plugin": "plugins",
    "need-plugin": "plugins",
    "need-plugins": "plugins",
    "plugin-dir": "plugins-dir",
    "wsgi": "module",
    "file": "wsgi-file",
    "uwsgi-socket": "socket",
    "yml": "yaml",
    "xmlconfig": "xml",
    "js": "json",
    "lazy": "lazy-apps",
}
# the same for letters, which uWSGI knows on a command line alone
LETTERS = {
    "M": "master",
    "R": "max-requests",
    "T": "enable-threads",
    "b": "buffer-size",
    "j": "json",
    "l": "listen",
    "p": "processes",
    "s": "socket",
    "t": "harakiri",
    "w": "module",
    "x": "xml",
    "y": "yaml",
}
