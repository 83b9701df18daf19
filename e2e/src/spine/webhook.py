"""A webhook that keeps what it takes: each message becomes a line. For tests."""

import http.server


class Keeper(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        print(body.decode("utf-8"), flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keeper)
print(server.server_port, flush=True)
server.serve_forever()
