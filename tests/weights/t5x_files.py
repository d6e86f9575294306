"""T5X checkpoints that tests write, how they are refused, and a bucket of our own."""

import contextlib
import dataclasses
import http.server
import json
import pathlib
import threading
import urllib.parse

import pytest
import tiny_weights

from t5tune import errors
from t5tune.weights import t5x


def write(folder: pathlib.Path, made, config=tiny_weights.FLAN, dtype=None, step=7):
  """Writes `folder/checkpoint_<step>`; returns that directory."""
  path = folder / f"checkpoint_{step}"
  source = dataclasses.replace(tiny_weights.in_memory(config, made), step=step)
  t5x.write_native(source, path, dtype, lambda done, total: None)
  return path


def refused(path, *words: str) -> str:
  """Opens a damaged checkpoint and reads all of it; returns the one message."""
  with pytest.raises(errors.UserError) as e:
    tiny_weights.read_all(t5x.open_checkpoint(str(path)))
  message = str(e.value)
  for word in (str(path), *words):
    assert word in message, message
  return message


class _Bucket(http.server.BaseHTTPRequestHandler):
  """Lists and gives the files of a folder, as Google's JSON API does."""

  protocol_version = "HTTP/1.1"
  wbufsize = -1  # head and body in one packet: two would wait 40 ms for each other

  def log_message(self, *args):
    pass

  def do_GET(self):
    root, url = self.server.root, urllib.parse.urlsplit(self.path)
    bucket, _, name = url.path.removeprefix("/storage/v1/b/").partition("/o")
    file = root / urllib.parse.unquote(name.removeprefix("/"))
    query = dict(urllib.parse.parse_qsl(url.query))
    if bucket != "bucket":
      self._answer(403, b'{"error": {"code": 403, "message": "no access"}}')
    elif not name:
      files = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
      inside = (query.get("startOffset", ""), query.get("endOffset", "\x7f"))
      items = [{"name": n, "size": "1"} for n in files if inside[0] <= n < inside[1]]
      self._answer(200, json.dumps({"items": items}).encode())
    else:
      self._answer(*((200, file.read_bytes()) if file.is_file() else (404, b"")))

  def _answer(self, status: int, body: bytes):
    self.send_response(status)
    self.send_header("Content-Length", str(len(body)))
    self.send_header("x-goog-generation", "1")
    self.end_headers()
    self.wfile.write(body)


@contextlib.contextmanager
def serve_bucket(root: pathlib.Path, monkeypatch):
  """Serves a folder as gs://bucket to TensorStore."""
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Bucket)
  server.root = root
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  url = f"http://127.0.0.1:{server.server_port}"
  monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", url)
  monkeypatch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "token")
  try:
    yield
  finally:
    server.shutdown()
    server.server_close()
    thread.join()
