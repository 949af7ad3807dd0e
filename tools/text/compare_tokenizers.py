# compare_tokenizers.py - our ids beside the library's (tokenizer.json -> verdict)
# SPDX-License-Identifier: Apache-2.0
"""usage: compare_tokenizers.py DRIVER TOKENIZER.json [--count N] [--seed N]

For N random texts (text_strings.py): ids as trusted text, ids as untrusted
text, the streamed decoding of both; then N/4 random lists of ids decoded.
Last, every code point that Python's Unicode tables know, in three contexts.
Prints one line per stage; exit status 1 where something differs. Code points
that were assigned after Unicode 14 are counted apart: a newer library may know
more of them than dataplane/tokenizer_unicode.c.
"""
import argparse
import pathlib
import random
import struct
import subprocess
import sys
import unicodedata

import tokenizers

import text_strings

SPECIAL, TRUSTED, MARKUP, SKIP, IDS = 1, 2, 4, 8, 16


def run(driver, path, records):
    """[(flags, bytes)] -> [(ids or negative errno, text)]"""
    packed = b"".join(struct.pack("<II", f, len(b)) + b for f, b in records)
    out = subprocess.run(
        [driver, str(path)], input=packed, stdout=subprocess.PIPE, check=True
    ).stdout
    results = []
    at = 0
    for _ in records:
        (count,) = struct.unpack_from("<I", out, at)
        at += 4
        if count == 0xFFFFFFFF:
            results.append((struct.unpack_from("<i", out, at)[0], b""))
            at += 4
            continue
        ids = list(struct.unpack_from(f"<{count}I", out, at))
        at += 4 * count
        (size,) = struct.unpack_from("<I", out, at)
        results.append((ids, out[at + 4 : at + 4 + size]))
        at += 4 + size
    assert at == len(out)
    return results


def report(stage, total, bad):
    print(f"  {stage}: {total} compared, {len(bad)} differ")
    for what in bad[:5]:
        print("    " + ascii(what)[:300])
    return len(bad)


def compare_texts(driver, path, tok, texts, flags):
    records = [
        (flags | (i % 2 * SPECIAL) | (i // 2 % 2 * SKIP), text)
        for i, text in enumerate(texts)
    ]
    tok.encode_special_tokens = not flags & TRUSTED
    bad_ids, bad_text, round_trips, plain = [], [], 0, 0
    for (flag, data), (ids, text) in zip(records, run(driver, path, records)):
        source = data.decode("utf-8", "replace")
        wanted = tok.encode(source, add_special_tokens=bool(flag & SPECIAL)).ids
        if ids != wanted:
            bad_ids.append((data, ids, wanted))
            continue
        decoded = tok.decode(wanted, skip_special_tokens=bool(flag & SKIP))
        if text.decode() != decoded:
            bad_text.append((data, text, decoded))
        if not flag & (SPECIAL | SKIP):
            plain += 1
            round_trips += text.decode() == normal(tok, source)
    kind = "trusted" if flags & TRUSTED else "untrusted"
    failed = report(f"{kind} texts, ids", len(texts), bad_ids)
    failed += report(f"{kind} texts, streamed text", len(texts), bad_text)
    print(f"  {kind} texts, decode(encode(x)) == x: {round_trips} of {plain}")
    return failed


def normal(tok, text):
    """What a round trip can give back: the text in the model's normal form."""
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        if tok.normalizer and f"{form}()" in repr(tok.normalizer):
            return tok.normalizer.normalize_str(text)
    return text


def compare_ids(driver, path, tok, count, seed):
    rng = random.Random(seed)
    top = max(tok.get_vocab(True).values()) + 3
    low = [i for i in range(min(top, 300))]
    lists = []
    for _ in range(count):
        pool = rng.choice([low, range(top), range(top)])
        lists.append([rng.choice(pool) for _ in range(rng.randint(0, 30))])
    records = [
        (IDS | i % 2 * SKIP, struct.pack(f"<{len(ids)}I", *ids))
        for i, ids in enumerate(lists)
    ]
    bad = []
    for i, (_, text) in enumerate(run(driver, path, records)):
        wanted = tok.decode(lists[i], skip_special_tokens=bool(i % 2))
        if text.decode() != wanted:
            bad.append((lists[i], text, wanted))
    return report("random ids, streamed text", count, bad)


def compare_code_points(driver, path, tok):
    points = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    texts = [f"a{chr(c)}b {chr(c)}{chr(c)}1 .{chr(c)}" for c in points]
    records = [(TRUSTED, text.encode()) for text in texts]
    wanted = tok.encode_batch(texts, add_special_tokens=False)
    known, later = [], []
    for c, (ids, _), oracle in zip(points, run(driver, path, records), wanted):
        if ids != oracle.ids:
            assigned = unicodedata.category(chr(c)) != "Cn"
            (known if assigned else later).append(c)
    failed = report("code points assigned in Unicode 14", len(points), known)
    print(f"  code points assigned later, differing: {len(later)}")
    print("    known: " + ranges(known) + "; later: " + ranges(later))
    return failed + len(later)


def ranges(points):
    parts = []
    for c in points:
        if parts and parts[-1][1] == c - 1:
            parts[-1][1] = c
        else:
            parts.append([c, c])
    return " ".join(f"{a:X}-{b:X}" if a != b else f"{a:X}" for a, b in parts)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("driver")
    parser.add_argument("path", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=12000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--code-points", action="store_true")
    args = parser.parse_args()
    tok = tokenizers.Tokenizer.from_file(str(args.path))
    added = [t.content for t in tok.get_added_tokens_decoder().values()]
    texts = text_strings.make(args.seed, args.count, added)
    print(f"{args.path.name}: seed {args.seed}, {args.count} texts")
    failed = compare_texts(args.driver, args.path, tok, texts, TRUSTED)
    failed += compare_texts(args.driver, args.path, tok, texts, MARKUP)
    failed += compare_ids(
        args.driver, args.path, tok, args.count // 4, args.seed
    )
    if args.code_points:
        tok.encode_special_tokens = False
        failed += compare_code_points(args.driver, args.path, tok)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
