"""What of an Apache is looked at."""

from __future__ import annotations

from dataclasses import dataclass

from ...conf import Settings
from .reading import Directive, DirectiveTree


@dataclass(frozen=True, slots=True)
class Site:
    """What is looked at. main: the server's own file, which may be the same one."""

    configuration: DirectiveTree
    main: DirectiveTree
    settings: Settings
    version: tuple[int, ...]  # () if it is not known

    def value(self, name: str, host: Directive) -> Directive | None:
        """Return a directive of a virtual host, or else of the server."""
        places = (host, self.configuration.top, self.main.top)
        return next((found for place in places if (found := place.get(name))), None)

    @property
    def path(self) -> str:
        """A path below WEBSOCKET_URL."""
        return f"{self.settings.websocket_url}x"
