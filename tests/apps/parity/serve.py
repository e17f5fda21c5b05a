"""The mall under WSGI and ASGI in one process: prints both ports, ends with its standard input."""

from __future__ import annotations

import os
import sys
import threading
import time

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mall.settings")

import django
import uvicorn
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

django.setup()  # before the handlers, as `manage.py` does

from mall.asgi import application as asgi  # noqa: E402
from mall.wsgi import application as wsgi  # noqa: E402


def main() -> None:
    web = ThreadedWSGIServer(("127.0.0.1", 0), WSGIRequestHandler)
    web.set_app(wsgi)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    config = uvicorn.Config(asgi, port=0, log_config=None, lifespan="off")
    asynchronous = uvicorn.Server(config)
    threading.Thread(target=asynchronous.run, daemon=True).start()
    while not asynchronous.started:
        time.sleep(0.01)
    print("PORTS", web.server_port, asynchronous.servers[0].sockets[0].getsockname()[1], flush=True)
    sys.stdin.read()
    asynchronous.should_exit = True
    web.shutdown()


main()
