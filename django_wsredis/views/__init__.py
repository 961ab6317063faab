"""Websocket views: the project's code at the other end of a socket, with Django's URLs, middleware and forms around it.

`WEBSOCKET_URLCONF` names their URLconf. docs/views.rst leads there.
"""

from .classes import WebSocketView
from .functions import websocket, websocket_loop
from .sockets import Published, ViewSocket, WebSocket
from .urls import websocket_url

__all__ = ["Published", "ViewSocket", "WebSocket", "WebSocketView", "websocket", "websocket_loop", "websocket_url"]
