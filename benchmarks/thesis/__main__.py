"""The thesis' tables 4.12 and 4.13 (NEST) and 4.14 (SpiNNaker), and the ablation: its figures, ours, and the causes.

    python benchmarks/thesis [--only 4.12 4.13 4.14 ablation] [--quick] [--students FOLDER] [--json FILE]

Each row: the thesis' figures; ours under its settings, in stored states and on policy; ours under the exact profile;
what the conversion loses before anything is deployed; and what the deployment loses then, by cause. About an hour, of
which --episodes changes most. `converted`, `windows` and `board`, named in --only, are further tables of SpiNNaker.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

ALWAYS = ("4.12", "4.13", "4.14", "ablation")
FURTHER = ("converted", "windows", "board")


def main() -> None:
    """Print the tables."""
    # A script's own folder comes first on the path, and from there `nest.py` would be taken for NEST.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from thesis import ablation, nest, spinnaker
    from thesis.running import Effort

    parser = argparse.ArgumentParser(prog="python benchmarks/thesis", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=ALWAYS + FURTHER, nargs="+", default=ALWAYS, help="which tables")
    parser.add_argument("--quick", action="store_true", help="one short episode and few states a row: a trial run")
    parser.add_argument("--episodes", type=int, default=20, help="in each of the groups that a row is measured by")
    parser.add_argument("--students", type=Path, help="a folder in which distilled networks are kept")
    parser.add_argument("--json", type=Path, help="a file for all rows")
    given = parser.parse_args()
    effort = Effort.quick() if given.quick else Effort(episodes=given.episodes)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.students or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        tables = {
            "4.12": lambda: nest.table("4.12", effort),
            "4.13": lambda: nest.table("4.13", effort),
            "4.14": lambda: spinnaker.table(effort, folder),
            "ablation": lambda: ablation.table(effort),
            "converted": lambda: spinnaker.converted(effort),
            "windows": spinnaker.windows,
            "board": lambda: spinnaker.board(effort, folder),
        }
        found = {}
        for name in given.only:
            found[name] = tables[name]()
            if given.json is not None:
                given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
