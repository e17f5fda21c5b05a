"""How gunicorn serves the studio (gunicorn reads this file from the working directory)."""

from __future__ import annotations

workers = 2
graceful_timeout = 3
# The control socket of gunicorn 26 and later; nothing here uses it. Older versions ignore the name.
control_socket_disable = True
