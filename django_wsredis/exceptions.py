"""Errors, each of which carries its consequence on the wire.

- WSRedisError
    - HandshakeError: an HTTP status instead of a websocket
        - UpgradeRequired, OriginNotAllowed, NotAuthorized, NotFound, Unavailable, Misconfigured
            - CannotDetach, DecisionOutdated
    - ConnectionClosed: a close code for an open websocket
    - BrokerUnavailable: Redis cannot be used now
"""

from http import HTTPStatus


class WSRedisError(Exception):
    """Base of all errors of this package."""


class HandshakeError(WSRedisError):
    """Raised when a handshake is refused. Its text goes to the log, never to the client."""

    status = HTTPStatus.BAD_REQUEST
    headers: tuple[tuple[str, str], ...] = ()


class UpgradeRequired(HandshakeError):
    """Raised for a request that is no websocket handshake, or one of another version (RFC 6455, 4.4)."""

    status = HTTPStatus.UPGRADE_REQUIRED
    headers = (("Sec-WebSocket-Version", "13"),)


class OriginNotAllowed(HandshakeError):
    """Raised when a page of another site tries to connect (RFC 6455, 10.2)."""

    status = HTTPStatus.FORBIDDEN


class NotAuthorized(HandshakeError):
    """Raised when nothing of what was asked for is granted, or that cannot be decided."""

    status = HTTPStatus.FORBIDDEN


class NotFound(HandshakeError):
    """Raised for a path outside `WEBSOCKET_URL`, or one that names no facility."""

    status = HTTPStatus.NOT_FOUND


class Unavailable(HandshakeError):
    """Raised when a websocket cannot be served now: the worker is full, or has no Redis."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers = (("Retry-After", "5"),)


class Misconfigured(HandshakeError):
    """Raised where the project's code for websockets cannot be used, or does what it should not."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR


class CannotDetach(Unavailable):
    """Raised when the server that runs Django cannot give up its sockets, or not in the way it was started."""


class DecisionOutdated(Unavailable):
    """Raised when a visitor's login or groups changed while its handshake was decided: it is to be decided again."""


class ConnectionClosed(WSRedisError):
    """Raised to end an open websocket with a close code (RFC 6455, 7.4) and a reason of up to 123 bytes."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class BrokerUnavailable(WSRedisError):
    """Raised when Redis cannot be reached in time, or refuses a command."""
