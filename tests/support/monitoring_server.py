"""A monitoring server: Flask with the route that a system-stats service posts to.

Prints its port, and then for each POST to /metrics one JSON line: the object that came, and what psutil saw then.
Answers 400 if a field is missing or has another type. Ends by itself after two minutes.
"""

import json
import os
import platform
import threading
import time

import psutil
from flask import Flask, request
from werkzeug.serving import make_server

NUMBER = (int, float)
TYPES = {"hostname": str, "cpu": NUMBER, "ram": NUMBER, "disk": NUMBER, "timestamp": int, "disk_read": NUMBER,
         "disk_write": NUMBER, "details": dict}

app = Flask(__name__)


def psutil_now():
    virtual, swap, disk = psutil.virtual_memory(), psutil.swap_memory(), psutil.disk_usage("/")
    return {
        "time": time.time(),
        "memory": virtual._asdict(),
        "swap": swap._asdict(),
        "disk": disk._asdict(),
        "disk_io": psutil.disk_io_counters()._asdict(),
        "network": psutil.net_io_counters()._asdict(),
        "addresses": {name: [[str(address.family.name), address.address, address.netmask, address.broadcast]
                             for address in addresses] for name, addresses in psutil.net_if_addrs().items()},
        "mtu": {name: stats.mtu for name, stats in psutil.net_if_stats().items()},
        "boot_time": psutil.boot_time(),
        "logical_cores": psutil.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "system": {"hostname": platform.node(), "os": platform.system(), "os_release": platform.release(),
                   "os_version": platform.version(), "architecture": platform.machine()},
    }


@app.post("/metrics")
def metrics():
    posted = request.get_json()
    wrong = [name for name, kind in TYPES.items() if not isinstance(posted.get(name), kind)]
    print(json.dumps({"posted": posted, "psutil": psutil_now(), "wrong": wrong}), flush=True)
    return {"wrong": wrong}, 400 if wrong else 201


server = make_server("127.0.0.1", 0, app)
print(server.port, flush=True)
end = threading.Timer(120, lambda: os._exit(1))
end.daemon = True
end.start()
server.serve_forever()
