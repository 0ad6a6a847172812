"""A stand-in of the Hugging Face Hub on this machine: the routes that its client asks for."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse

TOKEN = "hf_right"


class Hub:
    """Repositories in memory, served over HTTP.

    Attributes:
        url: for the environment variable HF_ENDPOINT.
        repositories: name -> list of commits, each a dict of file name -> bytes.
        requests: (method, path) of each that came, in order.
        broken: names of files of which only the first half is sent.
    """

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"
        self.repositories = {}
        self.requests = []
        self.broken = set()
        self.objects = {}

    def environment(self, folder, token=TOKEN):
        """What a client's process needs; its cache lies in `folder`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(folder),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **({"HF_TOKEN": token} if token else {}),
        }


@contextlib.contextmanager
def running_hub():
    """Context of a `Hub` that answers."""

    class Handler(_Handler):
        pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Handler.hub = Hub(server.server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Handler.hub
    finally:
        server.shutdown()
        server.server_close()


def commit_id(number):
    return f"{number:040x}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self):
        self._body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token != TOKEN:
            return self._json({"error": "Invalid credentials"}, 401)
        for method, pattern, answer in self._ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method in (self.command, "ANY"):
                if method in ("POST", "PUT") and not token:
                    return self._json({"error": "Invalid username or password."}, 401)
                return answer(self, *found.groups())
        return self._json({"error": "Not Found"}, 404)

    def _json(self, value, status=200, **headers):
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    def _send(self, content, status, headers, cut=False):
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.close_connection = True

    def _commits(self, name):
        """Those of a repository; None, and an answer, where there is none."""
        if name in self.hub.repositories:
            return self.hub.repositories[name]
        headers = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
        status = 404 if self.headers.get("Authorization") else 401
        self._send(b'{"error":"Repository not found"}', status, headers)
        return None

    def _number(self, commits, revision):
        numbers = {"main": len(commits) - 1}
        numbers |= {commit_id(number): number for number in range(len(commits))}
        if revision not in numbers:
            headers = {"X-Error-Code": "RevisionNotFound"}
            self._send(b'{"error":"Invalid rev id"}', 404, headers)
        return numbers.get(revision)

    def _create(self):
        values = json.loads(self._body)
        name = f"{values.get('organization') or 'user'}/{values['name']}"
        if name in self.hub.repositories:
            return self._json({"error": "exists", "url": f"{self.hub.url}/{name}"}, 409)
        self.hub.repositories[name] = [{}]
        return self._json({"url": f"{self.hub.url}/{name}", "name": name})

    def _info(self, name, revision):
        commits = self._commits(name)
        if commits is None:
            return
        number = self._number(commits, revision or "main")
        if number is not None:
            files = [{"rfilename": file} for file in commits[number]]
            self._json({"id": name, "modelId": name, "sha": commit_id(number), "siblings": files})

    def _tree(self, name, revision):
        commits = self._commits(name)
        if commits is None:
            return
        number = self._number(commits, revision)
        if number is not None:
            self._json(
                [
                    {"type": "file", "path": file, "size": len(data), "oid": _sha1(data)}
                    for file, data in commits[number].items()
                ]
            )

    def _resolve(self, name, revision, file):
        commits = self._commits(name)
        if commits is None:
            return
        number = self._number(commits, revision)
        if number is None:
            return
        if file not in commits[number]:
            return self._send(b"", 404, {"X-Error-Code": "EntryNotFound"})
        data = commits[number][file]
        headers = {
            "X-Repo-Commit": commit_id(number),
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "Accept-Ranges": "bytes",
        }
        status, cut = 200, file in self.hub.broken and self.command == "GET"
        if self.command == "GET" and "Range" in self.headers:
            start = int(re.match(r"bytes=(\d+)-", self.headers["Range"])[1])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data, status = data[start:], 206
        return self._send(data, status, headers, cut)

    def _preupload(self, name, _):
        if self._commits(name) is None:
            return
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".h5") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self._body)["files"]
        ]
        self._json({"files": files})

    def _batch(self, name):
        objects = [
            {**wanted, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}}
            for wanted in json.loads(self._body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _put(self, oid):
        if hashlib.sha256(self._body).hexdigest() != oid:
            return self._json({"error": "checksum"}, 422)
        self.hub.objects[oid] = self._body
        return self._send(b"", 200, {})

    def _commit(self, name, _):
        commits = self._commits(name)
        if commits is None:
            return
        files = dict(commits[-1])
        for line in self._body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        commits.append(files)
        oid = commit_id(len(commits) - 1)
        self._json(
            {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"}
        )

    _ROUTES = (
        ("POST", "/api/repos/create", _create),
        ("ANY", "/api/validate-yaml", lambda self: self._json({"errors": [], "warnings": []})),
        ("GET", "/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", _info),
        ("GET", "/api/models/([^/]+/[^/]+)/tree/([^/]+)", _tree),
        ("POST", "/api/models/([^/]+/[^/]+)/preupload/(.+)", _preupload),
        ("POST", "/api/models/([^/]+/[^/]+)/commit/(.+)", _commit),
        ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", _batch),
        ("ANY", "/lfs/([0-9a-f]+)", _put),
        ("ANY", "/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", _resolve),
    )


def _sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
