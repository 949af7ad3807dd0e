# train_demo.py - the demo model (Debian packages -> deploy/demo)
# SPDX-License-Identifier: Apache-2.0
"""Trains everything in deploy/demo; needs Debian 12, two cores, about 90
minutes and 3 GB of disk. One line, which may be stopped and given again:

    tools/demo/setup.sh build/demo-venv &&
        build/demo-venv/bin/python tools/train_demo.py all

HEDDLE_DEMO_WORK names the folder of downloads and checkpoints
(/var/tmp/heddle-demo); while the file that HEDDLE_TRAIN_PAUSE_FILE names
exists, training sleeps. deploy/demo/model/README.md says what comes out.
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("OMP_NUM_THREADS", "2")
sys.path.insert(0, str(ROOT / "tools" / "demo"))

import stages  # noqa: E402 (after the path is set)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stage", choices=[*stages.STAGES, "all"])
    parser.add_argument("--work", type=Path, default=Path(os.environ.get(
        "HEDDLE_DEMO_WORK", "/var/tmp/heddle-demo")))
    parser.add_argument("--out", type=Path, default=ROOT / "deploy/demo")
    parser.add_argument("--steps", type=int,
                        help="of this stage's training, for a short trial")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    chosen = list(stages.STAGES) if arguments.stage == "all" \
        else [arguments.stage]
    for name in chosen:
        stages.STAGES[name](arguments.work, arguments.out, arguments.steps)


if __name__ == "__main__":
    main()
