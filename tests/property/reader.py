"""A second process that reads: one request a line (JSON) on stdin, one answer a line on stdout.

It opens a path on the first request that names it and keeps it open, so that every later answer
shows what an already open reader sees of another process' writes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import forced  # noqa: F401


def serve() -> None:
    import numpy as np

    import vexfs_chroma

    clients: dict[str, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        path = request["path"]
        if request["method"] == "forget":
            clients.pop(path).close()
            answer: Any = None
        else:
            if path not in clients:
                clients[path] = vexfs_chroma.PersistentClient(path=path)
            collection = clients[path].get_collection(request["collection"])
            answer = getattr(collection, request["method"])(**request["arguments"])
        print(
            json.dumps(answer, default=lambda a: np.asarray(a, dtype=np.float64).tolist()),
            flush=True,
        )


class Reader:
    """The other end: starts the process and asks it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, path: Any, collection: str, method: str, **arguments: Any) -> Any:
        request = {"path": str(path), "collection": collection, "method": method}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({**request, "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the reading process died; its standard error says why"
        return json.loads(answer)

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


if __name__ == "__main__":
    serve()
