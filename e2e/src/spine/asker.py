"""Asks the system's resolver for names without end, and says how it goes.

Arguments: NAME=ADDRESS pairs. What is not answered by exactly that address is a line that begins with WRONG.
"""

import socket
import sys
import time

PAUSE_S = 0.1
REPORT_S = 0.25

expected = dict(pair.split("=") for pair in sys.argv[1:])
asked, slowest_ms, reported = 0, 0, 0.0
while True:
    for name, address in expected.items():
        begun = time.monotonic()
        try:
            found = {entry[4][0] for entry in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)}
        except OSError as error:
            found = error
        slowest_ms = max(slowest_ms, round((time.monotonic() - begun) * 1000))
        asked += 1
        if found != {address}:
            print("WRONG", name, found, flush=True)
    if time.monotonic() > reported + REPORT_S:
        reported = time.monotonic()
        print("asked", asked, "slowest", slowest_ms, flush=True)
    time.sleep(PAUSE_S)
