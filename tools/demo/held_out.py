# held_out.py - small held-out texts of each domain
# SPDX-License-Identifier: Apache-2.0
"""Pieces of documents that neither the base nor an adapter nor the tokenizer
was trained on, at most PIECE_BYTES long, chosen by hash among all pieces of
the domain; no more than DOCUMENT_PIECES of one document, or a single long
page (SQLite's list of requirements with random numbers) is half of it.
"""

import json
from pathlib import Path

from corpus import digest
from sources import ALL_DOMAINS

PIECE_BYTES = 1500
PIECES = 32
DOCUMENT_PIECES = 2


def pieces(text: str) -> list[str]:
    """Whole lines, up to PIECE_BYTES each; remainders too short are left."""
    out, piece = [], ""
    for line in text.splitlines(keepends=True):
        if len((piece + line).encode()) > PIECE_BYTES:
            out.append(piece)
            piece = ""
        piece += line
    out.append(piece)
    return [p for p in out if PIECE_BYTES // 2 < len(p.encode())
            <= PIECE_BYTES]


def write(documents: list[dict], folder: Path) -> None:
    """folder/DOMAIN.jsonl, one {"text", "source"} a line."""
    folder.mkdir(parents=True, exist_ok=True)
    for domain in ALL_DOMAINS:
        found = [{"text": p, "source": f"{d['package']}: {d['title']}"}
                 for d in documents
                 if d["domain"] == domain and d["held_out"]
                 for p in sorted(pieces(d["text"]),
                                 key=digest)[:DOCUMENT_PIECES]]
        found.sort(key=lambda row: digest(row["text"]))
        lines = [json.dumps(row, ensure_ascii=False) for row in
                 found[:PIECES]]
        (folder / f"{domain}.jsonl").write_text("\n".join(lines) + "\n",
                                                encoding="utf-8")
