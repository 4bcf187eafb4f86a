"""The embedded fault proxy: Toxiproxy's HTTP API v2 in Python, with nothing to install.

`ProxyServer` runs on an event loop, `proxy_in_thread` beside a synchronous program, and
`dagstorm proxy` as a process. `harness.proxy.client` talks to it, and to the Go server alike.
"""

from harness.proxy.client import Toxiproxy, network
from harness.proxy.limits import Limits
from harness.proxy.server import ProxyServer
from harness.proxy.threaded import proxy_in_thread

__all__ = ["Limits", "ProxyServer", "Toxiproxy", "network", "proxy_in_thread"]
