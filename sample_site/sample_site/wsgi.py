"""What a WSGI server such as uWSGI or gunicorn is pointed at."""

import os

from django_wsredis.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sample_site.settings")

application = get_wsgi_application()
