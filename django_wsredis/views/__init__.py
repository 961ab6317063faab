"""Websocket views: the project's code at the other end of a socket, with Django's URLs, middleware and forms around it.

`WEBSOCKET_URLCONF` names their URLconf. docs/views.rst leads there.
"""

from ..routes import websocket_url
from .classes import WebSocketView
from .functions import websocket, websocket_loop
from .sockets import Published, ViewSocket, WebSocket

__all__ = ["Published", "ViewSocket", "WebSocket", "WebSocketView", "websocket", "websocket_loop", "websocket_url"]
