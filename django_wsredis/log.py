"""Where what the package logs goes, unless the project's LOGGING says it."""

from __future__ import annotations

import logging


def log_to_stderr() -> None:
    """Show what we log, from INFO, with its time and process; not where the project has it shown already."""
    logger = logging.getLogger("django_wsredis")
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s [%(process)d] %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
