# corpus.py - Debian packages to documents, some of them held out
# SPDX-License-Identifier: Apache-2.0
"""apt-get downloads, dpkg-deb unpacks, converters.py reads; no installation.

Writes documents.jsonl.gz (all documents) and manifest.json (what was used).
"""

import gzip
import hashlib
import json
import re
import subprocess
from pathlib import Path

import converters
from sources import ALL_DOMAINS, SOURCES, TOOL_PACKAGES

HELD_OUT_SHARE = 0.03
HELD_OUT_KEYS_MIN = 3


def download(folder: Path) -> None:
    """Fetches and unpacks every package that is not there yet."""
    names = sorted({s.package for s in SOURCES} | set(TOOL_PACKAGES))
    missing = [n for n in names if not (folder / n).is_dir()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", *missing], cwd=folder,
                       check=True)
    for name in missing:
        archive = next(folder.glob(f"{name}_*.deb"))
        partial = folder / f".{name}"
        subprocess.run(["dpkg-deb", "-x", archive, partial], check=True)
        partial.rename(folder / name)


def package_field(archive: Path, field: str) -> str:
    """One field of a package's control data."""
    return subprocess.run(["dpkg-deb", "-f", archive, field], check=True,
                          capture_output=True, text=True).stdout.strip()


def digest(text: str) -> str:
    """The order of documents, and who is held out: a hash, not a chance."""
    return hashlib.sha256(text.encode()).hexdigest()


def tidy(text: str) -> str:
    """Rulers cut to eight signs: a small model that has begun a long one
    never finds its end."""
    return re.sub(r"([^\w\s])\1{8,}", lambda m: m[1] * 8, text)


def source_documents(folder: Path, source) -> list[dict]:
    """Documents of one source, in the order of their hashes, to its cap."""
    root = folder / source.package
    paths = sorted(p for p in root.rglob("*") if p.is_file() and
                   re.search(source.files, str(p.relative_to(root))) and
                   not re.search(source.skip, str(p.relative_to(root))))
    documents, used = [], 0
    found = [(key, title, tidy(text)) for key, title, text in
             getattr(converters, source.convert)(root, paths)]
    for key, title, text in sorted(found, key=lambda d: digest(d[0] + d[2])):
        used += len(text)
        if used > source.cap_mb * 1e6:
            break
        documents.append({"domain": source.domain, "title": title,
                          "package": source.package, "text": text,
                          "key": f"{source.domain}/{key}"})
    return documents


def drop_copies(documents: list[dict]) -> list[dict]:
    """The first of those whose text is the same."""
    seen: set[str] = set()
    kept = []
    for document in documents:
        mark = digest(document["text"])
        if mark not in seen:
            kept.append(document)
            seen.add(mark)
    return kept


def hold_out(documents: list[dict]) -> None:
    """Marks the keys with the smallest hashes of each domain."""
    for domain in ALL_DOMAINS:
        keys = sorted({d["key"] for d in documents if d["domain"] == domain},
                      key=digest)
        count = max(HELD_OUT_KEYS_MIN, int(HELD_OUT_SHARE * len(keys)))
        held = set(keys[:count])
        for document in documents:
            if document["domain"] == domain:
                document["held_out"] = document["key"] in held


def write_manifest(folder: Path, documents: list[dict], path: Path) -> None:
    """Package, version, licence, bytes of text."""
    rows = []
    for source in SOURCES:
        archive = next(folder.glob(f"{source.package}_*.deb"))
        texts = [d["text"] for d in documents
                 if d["package"] == source.package]
        rows.append({"package": source.package, "domain": source.domain,
                     "version": package_field(archive, "Version"),
                     "licence": source.licence, "documents": len(texts),
                     "bytes": sum(len(t.encode()) for t in texts)})
    path.write_text(json.dumps(rows, indent=1) + "\n")


def build(work: Path) -> None:
    """All documents into work/documents.jsonl.gz, once."""
    target = work / "documents.jsonl.gz"
    if target.exists():
        return
    packages = work / "packages"
    download(packages)
    documents = []
    for source in SOURCES:
        documents += source_documents(packages, source)
    documents = drop_copies(documents)
    hold_out(documents)
    write_manifest(packages, documents, work / "manifest.json")
    partial = target.with_suffix(".part")
    with gzip.open(partial, "wt", compresslevel=3, encoding="utf-8") as out:
        for document in documents:
            out.write(json.dumps(document, ensure_ascii=False) + "\n")
    partial.rename(target)


def load(work: Path) -> list[dict]:
    """Every document, in the order of the file."""
    with gzip.open(work / "documents.jsonl.gz", "rt",
                   encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
