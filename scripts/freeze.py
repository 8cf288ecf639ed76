"""Print constraints.txt for the environment that runs this: all that is installed, but ours."""

from __future__ import annotations

import subprocess
import sys

HEADER = "# The whole set that the tests run with. Regenerate with: make constraints"


def main() -> None:
    """Local version labels such as +cpu are dropped: no index serves them by that name."""
    command = [sys.executable, "-m", "pip", "freeze", "--exclude-editable"]
    frozen = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    print(HEADER)
    for line in frozen.splitlines():
        print(line.partition("+")[0])


if __name__ == "__main__":
    main()
