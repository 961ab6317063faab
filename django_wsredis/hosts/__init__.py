"""How each WSGI server, the host, gives up the socket of a request: one module for each."""
