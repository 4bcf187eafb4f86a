"""Mock services over real sockets: live twins of what simulation has in virtual time.

`services` runs all four on loopback, in a thread, for the time of a block:

- `tool_server`: a tool behind HTTP; one request, one JSON answer.
- `token_server`: a tool that gives tokens as server-sent events.
- `kv_server`: a key-value store over TCP, a connection a client.
- `event_collector`: takes events by HTTP, and says what came.

What goes wrong with them is drawn by seed (`Knobs`), alike in every run.
"""

from mocks.services.host import Hosted, services
from mocks.services.knobs import Knobs

__all__ = ["Hosted", "Knobs", "services"]
