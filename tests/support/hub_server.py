"""A hub on this machine: what `huggingface_hub` asks of one, for repositories that a test fills."""

import contextlib
import hashlib
import json
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HubServer(ThreadingHTTPServer):
    """Serves repositories of models at `url`.

    Attributes:
        repositories: by their names, each a dict of revisions, each a dict of files' bytes.
        refused: names of repositories to the status and the `X-Error-Code` that they answer with.
        asked: the paths that were asked for, with the methods.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.refused, self.asked = {}, {}, []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def fetched(self):
        """Returns the names of the files that were sent, in the order in which they were."""
        gets = [path for method, path in self.asked if method == "GET" and "/resolve/" in path]
        return [path.split("/resolve/")[1].split("/", 1)[1] for path in gets]


def commit_of(repository, revision):
    """Returns the commit that a revision stands for."""
    return hashlib.sha1(f"{repository} {revision}".encode()).hexdigest()


@contextlib.contextmanager
def running_hub():
    """Yields a server, which is running."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def use_hub(monkeypatch, url, home, **environment):
    """Has the next import of `huggingface_hub`, which reads its settings then, ask `url` alone."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
        monkeypatch.delitem(sys.modules, name)
    settings = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}
    for name, value in (settings | environment).items():
        monkeypatch.setenv(name, value)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self._answer(with_body=True)

    def do_HEAD(self):
        self._answer(with_body=False)

    def log_message(self, *_):
        pass

    def _answer(self, with_body):
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path))
        # refs/pr/1 is one part of a path, its slashes quoted.
        parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")]
        status, headers, body = self._found(parts)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _found(self, parts):
        of_api = parts[:2] == ["api", "models"]
        org, name, *rest = parts[2:] if of_api else parts
        repository = f"{org}/{name}"
        if repository in self.server.refused:
            status, code = self.server.refused[repository]
            return status, {"X-Error-Code": code} if code else {}, b""
        if repository not in self.server.repositories:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        revision = rest[1] if rest else "main"
        revisions = self.server.repositories[repository]
        by_commit = {commit_of(repository, each): each for each in revisions}
        revision = by_commit.get(revision, revision)
        if revision not in revisions:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        files, commit = revisions[revision], commit_of(repository, revision)
        if of_api:
            siblings = [{"rfilename": file} for file in files]
            about = {"id": repository, "modelId": repository, "sha": commit, "siblings": siblings}
            return 200, {"Content-Type": "application/json"}, json.dumps(about).encode()
        file = "/".join(rest[2:])
        if file not in files:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        etag = hashlib.sha256(files[file]).hexdigest()
        return 200, {"X-Repo-Commit": commit, "ETag": f'"{etag}"'}, files[file]
