# readme.py - the model's README (readme.md.in, figures -> README.md)
# SPDX-License-Identifier: Apache-2.0
"""Usage: readme.py DEMO TABLE SAMPLES

DEMO: the folder that holds model/; TABLE, SAMPLES: files with what
evaluate.py table and evaluate.py samples printed. They go in unedited.
"""

import json
import sys
from pathlib import Path


def packages(rows: list[dict]) -> str:
    """The table of sources."""
    lines = ["| package | version | used as | bytes of text | licence of "
             "the text |", "|---|---|---|---|---|"]
    lines += [f"| {r['package']} | {r['version']} | {r['domain']} | "
              f"{r['bytes']:,} | {r['licence']} |" for r in rows]
    return "\n".join(lines)


def main() -> None:
    demo, table, samples = map(Path, sys.argv[1:4])
    rows = json.loads((demo / "model/packages.json").read_text())
    figures = (
        "## Figures\n\nOn the held-out texts, by transformers and peft, not "
        "by Heddle:\n`tools/demo/evaluate.py table`. Perplexity per byte is "
        "2 to the bits per byte.\n\n" + table.read_text().strip() +
        "\n\n## Samples\n\nTwice 200 tokens from an empty prompt, temperature "
        "0.8, seeds 1 and 2, unedited:\n`tools/demo/evaluate.py samples`.\n\n" +
        samples.read_text().strip())
    beside = ""
    if (demo / "adapters").is_dir():
        beside = ("`../adapters` (ESFT: `scripture`, `german`, `python`;\n"
                  "LoRA: `dictionary`) and ")
    text = Path(__file__).with_name("readme.md.in").read_text()
    for mark, value in (("@COUNT@", str(len(rows))),
                        ("@BYTES@", f"{sum(r['bytes'] for r in rows):,}"),
                        ("@PACKAGES@", packages(rows)),
                        ("@BESIDE@", beside),
                        ("@FIGURES@", figures)):
        text = text.replace(mark, value)
    (demo / "model/README.md").write_text(text)


if __name__ == "__main__":
    main()
