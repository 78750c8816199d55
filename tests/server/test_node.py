"""The npm package `chromadb` on our server and on Chroma's: it is told the same.

`make node` installs the package into build/node.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from server_kit import Server, run_server

from vexfs_chroma._server._auth import hash_token

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "node"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(
    NODE is None or not (FOLDER / "node_modules" / "chromadb").is_dir(),
    reason="needs node, and the npm package chromadb: make node",
)


def told(server: Server, *arguments: str) -> Any:
    assert NODE is not None
    script = Path(__file__).with_name("client.mjs")
    ran = subprocess.run(
        [NODE, script, FOLDER, server.host, str(server.port), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_the_same_as_on_chroma(server: Server, chroma: Server) -> None:
    ours, theirs = told(server), told(chroma)
    for found in (ours, theirs):
        name, message = found["errors"]["dimension"]
        found["errors"]["dimension"] = [name, message.rpartition("status: ")[2]]
    (distances,), (expected,) = (found["query"].pop("distances") for found in (ours, theirs))
    assert distances == pytest.approx(expected, abs=1e-6)
    assert ours == theirs


def test_with_a_token(tmp_path: Path) -> None:
    config = f'[[auth.tokens]]\nname = "n"\nrole = "write"\nhash = "{hash_token("secret")}"\n'
    with run_server(tmp_path, config=config) as server:
        assert told(server, "secret")["count"] == 4
        with pytest.raises(AssertionError, match="Unauthorized"):
            told(server, "guessed")
