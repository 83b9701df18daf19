"""A webhook that keeps what it takes, and when: each message becomes a line. For tests."""

import http.server
import json
import time


class Keeper(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        at_ms = int(time.time() * 1000)
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print(json.dumps({"at_ms": at_ms, "message": message}), flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keeper)
print(server.server_port, flush=True)
server.serve_forever()
