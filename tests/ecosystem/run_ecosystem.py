#!/usr/bin/env python3
"""Run the tests that other libraries ship for their Chroma stores, on chromadb and on us.

    run_ecosystem.py                on both; what passes on chromadb must pass on us
    run_ecosystem.py --reference    on chromadb only
    run_ecosystem.py -- -k mmr      the rest goes to pytest

The tests come from the source distribution of the release that is installed, which pip downloads
into build/ecosystem once.  They run as they are, against the installed package, with every socket
closed; on us with one plugin that calls vexfs_chroma.install().  That it has an effect is seen from
the deviations: without it they pass, which is an error here.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree as ET

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "ecosystem"

Outcomes = dict[str, tuple[str, str]]
"""Of each test: passed, skipped, failure or error; and the text of what is not passed."""

FAILED = {"failure", "error"}


@dataclass(frozen=True)
class Deviation:
    """Why a test fails on us, and the line of it that does."""

    why: str
    line: str

    def recognises(self, failure: str) -> bool:
        # With a chain of exceptions another line failed first.
        return self.line in failure and "During handling of the above exception" not in failure


@dataclass(frozen=True)
class Suite:
    """The tests in the source distribution of a package, by their names in pytest's report."""

    package: str
    deselected: dict[str, str]  # with the reason
    deviations: dict[str, Deviation]


STORE = "tests.integration_tests.test_vectorstores::test_chroma"
NEEDS_SERVER = "needs a server on port 8000, of a chromadb before 1.0"
PRIVATE_CLASS = Deviation(
    why="its last step asserts that the private attribute _server is of chromadb's own class",
    line="assert isinstance(client._server, RustBindingsAPI)",
)
SUITES = [
    Suite(
        "langchain-chroma",
        deselected={
            f"{STORE}_large_batch": NEEDS_SERVER,
            f"{STORE}_large_batch_update": NEEDS_SERVER,
            f"{STORE}_legacy_batching": NEEDS_SERVER,
        },
        deviations={
            f"{STORE}_with_persistence": PRIVATE_CLASS,
            f"{STORE}_with_persistence_with_client_settings": PRIVATE_CLASS,
        },
    ),
]


def unpack(package: str) -> Path:
    """The folder with the package's tests and its pytest settings, and not the package itself:
    the installed one is what is tested."""
    name = f"{package.replace('-', '_')}-{version(package)}"
    archive = BUILD / f"{name}.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
        command += ["--no-deps", "--no-binary", ":all:", "--dest", str(BUILD)]
        subprocess.run([*command, f"{package}=={version(package)}"], check=True)
    with tarfile.open(archive) as files:
        wanted = (f"{name}/tests/", f"{name}/pyproject.toml")
        members = [file for file in files if file.name.startswith(wanted)]
        files.extractall(BUILD, members, filter="data")
    return BUILD / name


def run(suite: Suite, folder: Path, library: str, options: list[str]) -> Outcomes:
    """Run the suite in a process of its own."""
    report = folder / f"{library}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "--junitxml", str(report)]
    command += ["-p", "no:cacheprovider", "--disable-socket", "--allow-unix-socket"]
    command += ["--benchmark-disable", "-o", "asyncio_default_fixture_loop_scope=function"]
    if library != "chromadb":
        command += ["-p", "vexfs_install"]
    for test in suite.deselected:
        module, _, name = test.partition("::")
        command += ["--deselect", f"{module.replace('.', '/')}.py::{name}"]
    settings = {"PYTHONPATH": str(HERE), "ANONYMIZED_TELEMETRY": "False"}
    print(f"\n{suite.package} {version(suite.package)} on {library}", flush=True)
    subprocess.run(
        [*command, *options, "tests"], cwd=folder, env=os.environ | settings, check=False
    )
    if not report.exists():
        sys.exit("pytest did not get to its report")
    outcomes: Outcomes = {}
    for case in ET.parse(report).iter("testcase"):
        test = f"{case.get('classname')}::{case.get('name')}"
        outcomes.setdefault(test, ("passed", ""))
        for problem in case.iter():
            if problem.tag in {"skipped", *FAILED}:
                outcomes[test] = (problem.tag, problem.text or "")
    return outcomes


def count(outcomes: Outcomes) -> str:
    counts = Counter(outcome for outcome, _ in outcomes.values())
    return ", ".join(f"{number} {outcome}" for outcome, number in counts.items())


def failed(outcomes: Outcomes) -> list[str]:
    """What is wrong on chromadb itself: a line for each test."""
    wrong = [f"{test}: {it} on chromadb" for test, (it, _) in outcomes.items() if it in FAILED]
    return wrong if outcomes else ["no tests"]


def compare(suite: Suite, theirs: Outcomes, ours: Outcomes) -> list[str]:
    """What is wrong on us: a line for each test."""
    wrong = []
    for test in sorted(theirs.keys() | ours.keys()):
        expected = theirs.get(test, ("not run", ""))[0]
        outcome, failure = ours.get(test, ("not run", ""))
        deviation = suite.deviations.get(test)
        if deviation is None:
            if outcome not in {expected, "passed"}:
                wrong.append(f"{test}: {outcome}, on chromadb {expected}")
        elif outcome == "passed":
            wrong.append(f"{test}: passed, and is listed as a deviation")
        elif not deviation.recognises(failure):
            wrong.append(f"{test}: {outcome}, and not in the way that is listed")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--reference", action="store_true", help="on chromadb only")
    parser.add_argument("options", nargs="*", help="for pytest, after --")
    arguments = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    wrong, summary = [], []
    for suite in SUITES:
        folder = unpack(suite.package)
        theirs = run(suite, folder, "chromadb", arguments.options)
        wrong += failed(theirs)
        summary.append(f"{suite.package} on chromadb: {count(theirs)}")
        summary += [f"  not run: {test}: {reason}" for test, reason in suite.deselected.items()]
        if arguments.reference:
            continue
        ours = run(suite, folder, "vexfs_chroma", arguments.options)
        wrong += compare(suite, theirs, ours)
        summary.append(f"{suite.package} on vexfs_chroma: {count(ours)}")
        summary += [f"  meant: {test}: {it.why}" for test, it in suite.deviations.items()]
    print("", *summary, *(f"WRONG {line}" for line in wrong), sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
