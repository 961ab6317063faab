"""Settings to try the sample site behind a real web server, on your own computer; docs/deploy.rst has the commands."""

import os

from .settings import *  # noqa: F403
from .settings import BASE_DIR, WSREDIS

DEBUG = False

# For `collectstatic`; the web server reads it.
STATIC_ROOT = os.environ.get("SAMPLE_SITE_STATIC", BASE_DIR / "collected")

# A Redis that runs whether the site does or not: several workers, and commands beside them, share it.
WSREDIS = {**WSREDIS, "URL": os.environ.get("WSREDIS_URL", "redis://localhost:6379/0")}

# A site on the internet has a SECRET_KEY that nobody knows, and names its hosts in ALLOWED_HOSTS.
