"""Autobahn|Testsuite, as a check of the server's websocket protocol."""
