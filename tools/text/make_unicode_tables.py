# make_unicode_tables.py - where the library's Unicode differs (oracle -> C tables)
# SPDX-License-Identifier: Apache-2.0
"""usage: make_unicode_tables.py > dataplane/tokenizer_unicode.c

Asks the `tokenizers` library, not a Unicode version, because it has three: its
regexes know more than PCRE2 10.42 (Unicode 14), its normal forms know less than
utf8proc 2.8. Needs libutf8proc.so.2 and Python 3.11 (Unicode 14, as PCRE2).
"""
import ctypes
import sys
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

CATEGORIES = (
    "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So "
    "Zs Zl Zp Cf"
).split()
POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def ranges(points):
    parts = []
    for c in sorted(points):
        if parts and parts[-1][1] == c - 1:
            parts[-1][1] = c
        else:
            parts.append([c, c])
    return parts


def matching(regex, text):
    split = pre_tokenizers.Split(Regex(regex), "removed", invert=True)
    pieces = split.pre_tokenize_str(text)
    return {ord(c) for piece, _ in pieces for c in piece}


def later_classes():
    unknown = "".join(
        chr(c) for c in POINTS if unicodedata.category(chr(c)) == "Cn"
    )
    rows = []
    for name in CATEGORIES + ["Han"]:
        found = matching(r"\p{%s}" % name, unknown)
        rows += [(name, *pair) for pair in ranges(found)]
    return rows


def utf8proc_forms():
    """utf8proc's NFKD, NFD and NFC of a text."""
    lib = ctypes.CDLL("libutf8proc.so.2")
    free = ctypes.CDLL(None).free
    free.argtypes = [ctypes.c_void_p]

    def form(function):
        function.restype = ctypes.c_void_p
        function.argtypes = [ctypes.c_char_p]

        def normal(text):
            pointer = function(text.encode())
            data = ctypes.string_at(pointer)
            free(pointer)
            return data.decode()

        return normal

    return [form(f) for f in (lib.utf8proc_NFKD, lib.utf8proc_NFD,
                              lib.utf8proc_NFC)]


def inert_in_forms():
    """Code points that the library leaves alone and utf8proc does not."""
    ours, nfd, nfc = utf8proc_forms()
    theirs = normalizers.NFKD().normalize_str
    their_nfc = normalizers.NFC().normalize_str
    found = []
    for c in POINTS[1:]:
        # Marks of classes 240 and 1, in the wrong order around each.
        for text in (chr(c), "a\u0345" + chr(c) + "\u0334"):
            if ours(text) != theirs(text):
                found.append(c)
                break
        # The second part of a composition that the library does not know.
        parts = nfd(chr(c))
        if len(parts) > 1 and nfc(parts) != their_nfc(parts):
            found.append(ord(parts[-1]))
    return ranges(set(found))


HEAD = """\
/* tokenizer_unicode.c - where the library's Unicode differs (made by a tool) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Made by tools/text/make_unicode_tables.py from tokenizers {version}; not to be
 * edited. See tokenizer_unicode.h.
 */
#include <stddef.h>

#include "dataplane/tokenizer_unicode.h"
"""


def main():
    out = sys.stdout.write
    out(HEAD.format(version=tokenizers.__version__))
    rows = later_classes()
    out("\nconst struct unicode_later unicode_later[] = {\n")
    for name, first, last in rows:
        out(f'\t{{ 0x{first:x}, 0x{last:x}, "{name}" }},\n')
    out("};\n")
    out("const size_t unicode_later_count =\n")
    out("\tsizeof(unicode_later) / sizeof(*unicode_later);\n")
    out("\nconst uint32_t unicode_inert[][2] = {\n")
    for first, last in inert_in_forms():
        out(f"\t{{ 0x{first:x}, 0x{last:x} }},\n")
    out("};\n")
    out("const size_t unicode_inert_count =\n")
    out("\tsizeof(unicode_inert) / sizeof(*unicode_inert);\n")


if __name__ == "__main__":
    main()
