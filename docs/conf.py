"""How Sphinx builds the documentation: `sphinx-build docs docs/_build`."""

from django_wsredis import __version__

project = "django_wsredis"
copyright = "2026, the django_wsredis developers"
release = __version__
html_theme = "alabaster"
exclude_patterns = ["_build"]
