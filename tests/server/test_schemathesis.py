"""Requests made from the OpenAPI document: no answer that it does not have, no error of the server.

`make openapi` installs schemathesis beside the project and runs this.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from server_kit import DEFAULT, Server

from vexfs_chroma._server._routes import ROUTES

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = shutil.which(
    "schemathesis",
    path=f"{ROOT / 'build' / 'schemathesis' / 'bin'}{os.pathsep}{os.environ['PATH']}",
)
CASES = 5000
EXAMPLES = 180
CHECKS = (
    "not_a_server_error,status_code_conformance,"
    "content_type_conformance,response_schema_conformance"
)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(PROGRAM is None, reason="needs schemathesis: make openapi")
def test_schemathesis(server: Server, collection: str, tmp_path: Path) -> None:
    assert PROGRAM is not None
    command = [PROGRAM, "run", f"{server.url}/openapi.json", "--checks", CHECKS, "--seed", "7"]
    command += ["--max-examples", str(EXAMPLES), "--phases", "examples,coverage,fuzzing"]
    for name in unsupported(server, collection):
        command += ["--exclude-operation-id", name]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stdout[-6000:]
    made = re.search(r"(\d+) generated", ran.stdout)
    assert made
    assert int(made[1]) >= CASES
    assert server.call("GET", DEFAULT + "/collections").status == 200


def unsupported(server: Server, collection: str) -> list[str]:
    """Operations that answer 501, as they should."""
    bodies = {
        "attach_function": {"name": "n", "function_id": "f", "output_collection": "o"},
        "detach_function": {},
        "search": {"searches": []},
        "fork_collection": {"new_name": "forked"},
        "fork_count": None,
    }
    found = []
    for route in ROUTES:
        if route.name in bodies:
            names = {
                "tenant": "default_tenant",
                "database": "default_database",
                "collection_id": collection.rpartition("/")[2],
                "function": "f",
            }
            path = route.template.format(**names)
            if server.call(route.method, path, bodies[route.name]).status == 501:
                found.append(route.name)
    return found
