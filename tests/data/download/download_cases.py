"""A small server on this machine that breaks off, changes files, or knows less than it should."""

import hashlib
import io
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()


class Handler(BaseHTTPRequestHandler):
    """Sends ``server.files``; the server's other attributes say what goes wrong."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        state, path = self.server, self.path.lstrip("/")
        state.asked.append((self.command, path, self.headers.get("Range")))
        status = state.statuses.pop(0) if state.statuses else 200 if path in state.files else 404
        content = state.files.get(path, b"") if status == 200 else b""
        etag = f'"{hashlib.md5(content).hexdigest()}"' if state.etag is None else state.etag
        wanted, whole, start = self.headers.get("Range"), len(content), 0
        if status == 200 and wanted and state.ranges and self.headers.get("If-Range") in (etag, state.believes):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            status, content = (206, content[start:]) if start < whole else (416, b"")
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", state.kind)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        if etag:
            self.send_header("ETag", etag)
        if state.date:
            self.send_header("Last-Modified", state.date)
        self.end_headers()
        if body:
            breaks = state.breaks.pop(0) if state.breaks and status in (200, 206) else len(content)
            self.wfile.write(content[:breaks])
            self.close_connection = breaks < len(content)

    def version_string(self):
        return self.server.name


@contextmanager
def serve(files):
    """A running server; its ``asked`` lists the method, path and range of each request."""
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.files, running.asked, running.statuses, running.breaks = files, [], [], []
    running.etag, running.believes, running.ranges, running.date = None, None, True, None
    running.handle_error = lambda *_: None  # of connections that the client closes
    running.name, running.kind = "AmazonS3", "application/octet-stream"
    running.url = f"http://127.0.0.1:{running.server_port}"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def zipped(**files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"images/{name}.tif", content)
    return stream.getvalue()
