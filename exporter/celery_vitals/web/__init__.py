"""HTTP: the ASGI and WSGI apps, the server, and the web configuration file."""
