"""A local server that answers like the Hugging Face Hub."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Serves one dataset, at any revision, from a folder."""

    def __init__(self, name: str, folder: Path, asked: list[str], *arguments):
        self.dataset, self.folder, self.asked = f"/datasets/{name}/", folder, asked
        super().__init__(*arguments)

    def log_message(self, format: str, *arguments: object) -> None:
        """Prints nothing."""

    def do_HEAD(self) -> None:
        self.answer(with_content=False)

    def do_GET(self) -> None:
        self.answer(with_content=True)

    def answer(self, with_content: bool) -> None:
        parts = self.path.partition(f"{self.dataset}resolve/")[2].split("/", 1)
        file = self.folder / parts[-1]
        if len(parts) < 2 or not file.is_file():
            found = self.dataset in self.path
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if found else "RepoNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = file.read_bytes()
        if with_content:
            self.asked.append(parts[1])
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_content:
            self.wfile.write(content)


@contextlib.contextmanager
def serving(name: str, folder: Path, cache: Path) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Serves a dataset while the context is open.

    Args:
        name: OWNER/NAME of the dataset.
        folder: Its files.
        cache: Folder of the downloads.

    Yields:
        (environment variables of a process that uses the server, the files it has downloaded).
    """
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, name, folder, asked))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield {"HF_ENDPOINT": address, "HF_HOME": str(cache)}, asked
    finally:
        server.shutdown()
        server.server_close()
