"""An HTTP server that answers each request with 200, and prints its port and
then what it made of each: [method, target, body]. http.server leaves chunks to
its user, who decodes them here as carelessly as users do."""
import base64, json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def read_body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            n = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(n)
            return body if len(body) == n else None
        body = b""
        while size := self.rfile.readline():
            n = int(size.split(b";")[0], 16)
            body += self.rfile.read(n)
            if self.rfile.readline() == b"":
                break
            if n == 0:
                return body
        return None

    def answer(self):
        body = self.read_body()
        if body is None:
            self.close_connection = True
            return
        print(json.dumps([self.command, self.path, base64.b64encode(body).decode()]), flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_GET = do_POST = do_OPTIONS = answer

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
server.handle_error = lambda *args: None  # of a connection that is cut
print(server.server_port, flush=True)
server.serve_forever()
