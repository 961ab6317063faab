#!/usr/bin/env python3
"""The sample site's commands: first `sample_site/manage.py migrate`, then `sample_site/manage.py runwsserver`."""

import importlib.util
import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
VENV = CHECKOUT / ".venv"


def use_venv():
    """Go on with the checkout's .venv where Django is missing: a second terminal has not activated it."""
    if importlib.util.find_spec("django"):
        return
    python = VENV / "bin" / "python"
    # Inside that very .venv, executing it again would never end.
    if python.exists() and not os.path.samefile(sys.prefix, VENV):
        os.execv(python, [str(python), *sys.orig_argv[1:]])
    install = "python3 -m venv .venv && .venv/bin/pip install -e '.[embedded]'"
    sys.exit(f"Django is not installed. Run: cd {CHECKOUT} && {install}")


def main():
    use_venv()
    if not importlib.util.find_spec("django_wsredis"):
        sys.path.append(str(CHECKOUT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sample_site.settings")

    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
