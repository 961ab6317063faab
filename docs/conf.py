"""How Sphinx builds the documentation: `sphinx-build docs docs/_build`."""

from django_wsredis import __version__

project = "django_wsredis"
copyright = "2026, the django_wsredis developers"
release = __version__
html_theme = "alabaster"
html_theme_options = {"page_width": "1140px"}  # commands and pictures fit in
exclude_patterns = ["_build"]
