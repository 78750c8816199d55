"""Install what `vexctl bench engine` compares with: the extra "peers", one package after the other,
so that one that is not there for this machine does not keep the others away.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys


def main() -> int:
    """Install all that can be."""
    for requirement in importlib.metadata.requires("vexfs-chroma") or ():
        if not re.search(r"extra == .peers.", requirement):
            continue
        package = requirement.partition(";")[0].strip()
        command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        done = subprocess.run([*command, package], check=False, capture_output=True, text=True)
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else "no reason given"
        print(f"{package}: {'installed' if done.returncode == 0 else f'left out: {reason}'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
