"""A small stand-in for the Hugging Face Hub: what downloads and commits ask of it, over HTTP."""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub(ThreadingHTTPServer):
    """Repositories in memory. `requests` has every request's method, path and token."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        # repository -> its commits, oldest first: (hash, files).
        self.repositories: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: dict[str, bool] = {}
        self.requests: list[tuple[str, str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, repo: str, files: dict[str, bytes]) -> str:
        commits = self.repositories.setdefault(repo, [])
        everything = {**(commits[-1][1] if commits else {}), **files}
        oid = hashlib.sha1(f"{repo} {len(commits)}".encode()).hexdigest()
        commits.append((oid, everything))
        return oid


class _Requests(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._serve_file()

    def do_GET(self) -> None:
        self._serve_file()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self._note()
        if self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            repo = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            if repo in self.server.repositories:
                return self._json({"url": f"{self.server.address}/{repo}"}, 409)
            if "authorization" not in {key.lower() for key in self.headers}:
                return self._json({"error": "Invalid username or password."}, 401)
            self.server.private[repo] = asked.get("private", asked.get("visibility") == "private")
            self.server.commit(repo, {})
            self._json({"url": f"{self.server.address}/{repo}"})
        elif found := re.fullmatch(r"/api/models/(.+)/preupload/main", self.path):
            files = json.loads(body)["files"]
            how = {"uploadMode": "regular", "shouldIgnore": False}
            self._json({"files": [{"path": each["path"], **how} for each in files]})
        elif found := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            rows = [json.loads(line) for line in body.splitlines()]
            new = {
                row["value"]["path"]: base64.b64decode(row["value"]["content"])
                for row in rows
                if row["key"] == "file"
            }
            oid = self.server.commit(found[1], new)
            self._json(
                {"commitOid": oid, "commitUrl": f"{self.server.address}/{found[1]}/commit/{oid}"}
            )
        else:
            self._json({"error": "not in the stand-in"}, 404)

    def _serve_file(self) -> None:
        self._note()
        found = re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/([^?]+)", self.path)
        commits = dict(self.server.repositories.get(found[1], [])) if found else {}
        if not found or not commits:
            return self._refuse("RepoNotFound")
        newest = list(commits)[-1]
        oid = newest if found[2] == "main" else found[2]
        if oid not in commits:
            return self._refuse("RevisionNotFound")
        if found[3] not in commits[oid]:
            return self._refuse("EntryNotFound", oid)
        content = commits[oid][found[3]]
        self.send_response(200)
        self.send_header("X-Repo-Commit", oid)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _refuse(self, code: str, oid: str = "") -> None:
        self.send_response(401 if code == "RepoNotFound" else 404)
        self.send_header("X-Error-Code", code)
        if oid:
            self.send_header("X-Repo-Commit", oid)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, answer: Any, status: int = 200) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _note(self) -> None:
        token = self.headers.get("Authorization", "")
        self.server.requests.append((self.command, self.path, token))

    def log_message(self, *_: object) -> None:
        pass
