"""Settings of the sample site: for your own computer, not for the internet."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = True
SECRET_KEY = "the sample site has no secrets"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    # Before staticfiles: both have a runserver command, and the first one wins. This one speaks websockets too.
    "django_wsredis",
    "django.contrib.staticfiles",
    "chat",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "sample_site.urls"

# django_wsredis.wsgi instead of django.core.wsgi: it takes the websockets and leaves the rest to Django.
WSGI_APPLICATION = "sample_site.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                # WEBSOCKET_URI for the script that opens the socket.
                "django_wsredis.context_processors.default",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SAMPLE_SITE_DB", BASE_DIR / "db.sqlite3"),
    },
}

STATIC_URL = "/static/"

USE_TZ = True
TIME_ZONE = "UTC"

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "index"
LOGOUT_REDIRECT_URL = "index"

# Every URL below this one is a websocket; what follows it is the facility: /ws/chat is the facility "chat".
WEBSOCKET_URL = "/ws/"

# Paths below it that belong to a view of this URLconf are no facilities: the view has the other end of the socket.
WEBSOCKET_URLCONF = "sample_site.sockets"

WSREDIS = {
    # A small Redis that is started with the server, so that there is nothing to install.
    # Use your own with WSREDIS_URL=redis://localhost:6379/0.
    "URL": os.environ.get("WSREDIS_URL", "embedded://"),
    # What is kept of each facility's channels: for who opens the page later, and for who was away for a moment.
    "HISTORY": {
        "chat": {"messages": 500, "seconds": 86400},
        "team": {"messages": 500, "seconds": 86400},
        "direct": {"messages": 100, "seconds": 86400},
        "rooms/*": {"messages": 500, "seconds": 86400},
    },
    # For clients without wsredis.js: who has heard nothing for a while may send this text, and gets it back.
    "HEARTBEAT": "--heartbeat--",
    # Who may subscribe and publish; see sample_site/permissions.py.
    "ALLOWED_CHANNELS": "sample_site.permissions.allowed_channels",
}
