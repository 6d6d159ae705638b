"""A small stand-in for the Hub on this machine: the requests of huggingface_hub that create, write and read repositories of models."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml

TOKENS = {"hf_writes": {"me", "team"}, "hf_reads": set()}  # the namespaces that each may write to
_SMALL = 10_000  # bytes; larger files and weights are stored as LFS


class LocalHub:
    """A Hub at ``address``.

    Attributes:
        repositories: By ``USER/NAME``: ``private``, and ``branches`` with the files of each.
        stored: Contents of LFS files by their SHA-256.
        requests: Method and path of each request, in their order.
        failures: Answers in the place of the next ones: (part of ``METHOD /path``, status), each once.
        commits: Messages, in their order.
    """

    def __init__(self):
        self.repositories: dict[str, dict] = {}
        self.stored: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.failures: list[tuple[str, int]] = []
        self.commits: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def files(self, repository: str, branch: str = "main") -> dict[str, bytes]:
        """The files of a branch."""
        return self.repositories[repository]["branches"][branch]

    def count(self, part: str) -> int:
        """How many requests had this in ``METHOD /path``."""
        return sum(part in request for request in self.requests)


class _Refused(Exception):
    """An answer other than 200: status, message, code of the error, body."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LocalHub

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._answer(b"")

    do_HEAD = do_GET

    def do_POST(self):
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    do_PUT = do_POST

    def _answer(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        request = f"{self.command} {path}"
        self.hub.requests.append(request)
        headers, status = {}, 200
        try:
            for number, (part, failing) in enumerate(self.hub.failures):
                if part in request:
                    del self.hub.failures[number]
                    raise _Refused(failing, "out of order", "", None)
            found = self._found(path, body, headers)
            data = found if isinstance(found, bytes) else json.dumps(found).encode()
        except _Refused as refused:
            status, message, code, found = refused.args
            data = json.dumps(found or {"error": message}).encode()
            headers |= {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _found(self, path: str, body: bytes, headers: dict[str, str]):
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return validated(json.loads(body)["content"])
        if match := re.fullmatch(r"/lfs/(\w+)", path):
            assert hashlib.sha256(body).hexdigest() == match[1]
            self.hub.stored[match[1]] = body
            return {}
        if match := re.fullmatch(r"/([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch", path):
            self._writable(match[1])
            return {"transfer": "basic", "objects": [self._lfs(one) for one in json.loads(body)["objects"]]}
        if match := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/(preupload|commit|branch)/(.+)", path):
            repository = self._writable(match[1])
            return getattr(self, f"_{match[2]}")(match[1], repository, match[3], body)
        if match := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/(.+))?", path):
            repository = self._readable(match[1])
            return {"id": match[1], "private": repository["private"], "sha": "c" * 40, "siblings": []}
        if match := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", path):
            return self._resolved(match[1], match[2], match[3], headers)
        raise _Refused(404, f"no answer to {path}", "", None)

    def _user(self) -> set[str]:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in TOKENS:
            raise _Refused(401, "Invalid credentials in Authorization header", "", None)
        return TOKENS[token]

    def _create(self, asked: dict):
        if asked["organization"] not in self._user():
            raise _Refused(403, f"You don't have the rights to create a model under {asked['organization']}", "", None)
        name = f"{asked['organization']}/{asked['name']}"
        address = {"url": f"{self.hub.address}/{name}"}
        if name in self.hub.repositories:
            raise _Refused(409, "You already created this model repo", "", address)
        private = asked.get("visibility") == "private" or asked.get("private", False)
        self.hub.repositories[name] = {"private": private, "branches": {"main": {}}}
        return address

    def _readable(self, name: str) -> dict:
        if name not in self.hub.repositories:
            raise _Refused(404, "Repository not found", "RepoNotFound", None)
        return self.hub.repositories[name]

    def _writable(self, name: str) -> dict:
        if name.partition("/")[0] not in self._user():
            raise _Refused(403, "This token has no write permissions", "", None)
        return self._readable(name)

    def _branch(self, name: str, repository: dict, branch: str, body: bytes):
        if branch in repository["branches"]:
            raise _Refused(409, "The reference already exists", "", None)
        repository["branches"][branch] = dict(repository["branches"]["main"])
        return {}

    def _preupload(self, name: str, repository: dict, branch: str, body: bytes):
        if branch not in repository["branches"]:
            raise _Refused(404, "Invalid rev id", "RevisionNotFound", None)
        found = []
        for one in json.loads(body)["files"]:
            lfs = one["size"] > _SMALL or one["path"].endswith((".safetensors", ".png"))
            there = repository["branches"][branch].get(one["path"])
            oid = None if there is None else hashlib.sha256(there).hexdigest() if lfs else _blob(there)
            mode = "lfs" if lfs else "regular"
            found.append({"path": one["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": found}

    def _lfs(self, one: dict) -> dict:
        if one["oid"] in self.hub.stored:
            return one
        return {**one, "actions": {"upload": {"href": f"{self.hub.address}/lfs/{one['oid']}"}}}

    def _commit(self, name: str, repository: dict, branch: str, body: bytes):
        files = dict(repository["branches"][branch])
        for entry in map(json.loads, body.splitlines()):
            value = entry["value"]
            if entry["key"] == "header":
                self.hub.commits.append(value["summary"])
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            else:
                raise _Refused(400, f"no answer to {entry['key']}", "", None)
        repository["branches"][branch] = files
        oid = hashlib.sha1(repr(sorted(files)).encode()).hexdigest()
        return {"commitUrl": f"{self.hub.address}/{name}/commit/{oid}", "commitOid": oid, "commitMessage": ""}

    def _resolved(self, name: str, branch: str, path: str, headers: dict[str, str]) -> bytes:
        branches = self._readable(name)["branches"]
        files = branches["main" if branch == "c" * 40 else branch]
        if path not in files:
            raise _Refused(404, "Entry not found", "EntryNotFound", None)
        headers |= {"ETag": f'"{hashlib.sha256(files[path]).hexdigest()}"', "X-Repo-Commit": "c" * 40}
        return files[path]


def _blob(data: bytes) -> str:
    """The name that git has for a file of these contents."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def validated(card: str) -> dict:
    """Refuses metadata that the Hub refuses, as far as it is known here."""
    data = yaml.safe_load(card.split("---\n")[1]) if card.startswith("---\n") else {}
    errors = []
    if not re.fullmatch(r"[a-z0-9.-]+", data.get("license", "mit")):
        errors.append('"license" must be one of [apache-2.0, mit, ...]')
    if data.get("base_model_relation", "finetune") not in ("finetune", "adapter", "merge", "quantized"):
        errors.append('"base_model_relation" must be one of [finetune, adapter, merge, quantized]')
    for name in (*(data.get("datasets") or []), *(data.get("base_model") or [])):
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
            errors.append(f'"{name}" is not a valid repository')
    if errors:
        raise _Refused(400, "Bad request", "", {"errors": [{"message": text} for text in errors], "warnings": []})
    return {"errors": [], "warnings": []}
