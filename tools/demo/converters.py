# converters.py - files of Debian packages as plain text
# SPDX-License-Identifier: Apache-2.0
"""Each converter takes the unpacked folder and matching paths and yields
(key, title, text). Texts with one key never get apart: they are held out
together or trained on together.
"""

import gzip
import html
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

Document = tuple[str, str, str]


def read_text(path: Path) -> str | None:
    """The file as text; None where it is not UTF-8."""
    data = path.read_bytes()
    if path.suffix in (".gz", ".dz"):
        data = gzip.decompress(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


# --- manual pages -------------------------------------------------------------

ROFF_CHARS = {
    "aq": "'", "dq": '"', "bu": "*", "em": "--", "en": "-", "hy": "-",
    "lq": '"', "rq": '"', "oq": "'", "cq": "'", "(co": "(c)", "co": "(c)",
    "ti": "~", "ha": "^", "rs": "\\", "mc": "µ", "mu": "x", "->": "->",
    "<=": "<=", ">=": ">=", "!=": "!=", "Fo": "«", "Fc": "»", "bv": "|",
    ":a": "ä", ":o": "ö", ":u": "ü", ":A": "Ä", ":O": "Ö", ":U": "Ü",
    "ss": "ß", "de": "°", "sc": "§", "ga": "`", "bq": "„", "pl": "+",
    "+-": "±", "..": "...", "at": "@", "sh": "#", "or": "|", "sl": "/",
}
SKIPPED_MACROS = {"TH", "de", "ig", "nr", "ds", "ie", "el", "if", "so", "ad",
                  "na", "hy", "nh", "ne", "ta", "in", "ft", "ll", "tr", "it",
                  "PD", "DT", "fi", "nf", "EX", "EE", "RS", "RE", "sp", "ti",
                  "hw", "fam", "ps", "ss", "TS", "TE", "br", "UE", "ME"}


def roff_inline(text: str) -> str:
    """Fonts dropped, escapes replaced by what they print."""
    text = re.sub(r"\\[\"#].*", "", text)
    text = re.sub(r"\\f(\(..|\[[^]]*\]|.)|\\s[-+]?\d|\\m\[[^]]*\]", "", text)
    text = re.sub(r"\\\((..)|\\\[([^]]*)\]",
                  lambda m: ROFF_CHARS.get(m[1] or m[2], ""), text)
    text = re.sub(r"\\\*(\(..|\[[^]]*\]|.)", "", text)
    text = re.sub(r"\\[&|^/,:%c]|\\[hvo]'[^']*'", "", text)
    text = text.replace("\\-", "-").replace("\\ ", " ").replace("\\~", " ")
    return text.replace("\\e", "\\").replace("\\(", "(").replace("\\'", "'")


def roff_arguments(rest: str) -> list[str]:
    """Arguments of a macro: words, or quoted with "" for a quote."""
    found = re.findall(r'"((?:[^"]|"")*)"?|((?:\\.|\S)+)', rest)
    return [roff_inline(a.replace('""', '"') or b) for a, b in found]


def roff_macro(name: str, arguments: list[str]) -> str | None:
    """The line a macro prints; None: nothing."""
    if name in ("SH", "SS"):
        indent = "" if name == "SH" else "  "
        return "\n" + indent + " ".join(arguments)
    if name in ("PP", "P", "LP", "HP"):
        return ""
    if name in ("TP", "TQ"):
        return ""
    if name == "IP":
        return "\n" + (arguments[0] if arguments else "")
    if name in ("B", "I", "SM", "SB", "UR", "MT"):
        return " ".join(arguments)
    if name in ("BR", "RB", "BI", "IB", "RI", "IR"):
        return "".join(arguments)
    return None


def roff_text(source: str) -> str:
    """A man(7) page as text: sections, paragraphs, no layout."""
    out: list[str] = []
    ignoring = False
    for line in source.splitlines():
        if ignoring:
            ignoring = not line.startswith("..")
            continue
        macro = re.match(r"[.']\s*([A-Za-z]{1,3})\b\s*(.*)", line)
        if macro and macro[1] in ("de", "ig"):
            ignoring = True
        elif macro and macro[1] not in SKIPPED_MACROS:
            printed = roff_macro(macro[1], roff_arguments(macro[2]))
            if printed is not None:
                out.append(printed)
        elif not line.startswith((".", "'")):
            out.append(roff_inline(line))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip()


def man_pages(_root: Path, paths: list[Path]) -> Iterator[Document]:
    """Pages of macro package man; a page's section is part of its title."""
    for path in paths:
        source = read_text(path)
        if not source or ".TH" not in source or path.is_symlink():
            continue
        name, section = path.name.removesuffix(".gz").rsplit(".", 1)
        text = roff_text(source)
        if len(text) > 300:
            yield name, f"man {section} {name}", text


# --- HTML ---------------------------------------------------------------------

class TextOf(HTMLParser):
    """Text of a page, block elements on lines of their own."""

    BLOCKS = {"p", "div", "li", "h1", "h2", "h3", "h4", "h5", "tr", "dt",
              "dd", "br", "pre", "table", "ul", "ol", "dl", "blockquote"}
    SKIPPED = {"script", "style", "nav", "header", "footer", "head", "svg"}

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.skip_depth = 0
        self.verbatim = 0

    def handle_starttag(self, tag, attrs):
        if tag in self.SKIPPED:
            self.skip_depth += 1
        if tag == "pre":
            self.verbatim += 1
        if tag in self.BLOCKS:
            self.parts.append("\n\n" if tag in ("p", "h1", "h2", "h3", "pre")
                              else "\n")
        if tag == "li":
            self.parts.append("* ")

    def handle_endtag(self, tag):
        if tag in self.SKIPPED:
            self.skip_depth = max(0, self.skip_depth - 1)
        if tag == "pre":
            self.verbatim = max(0, self.verbatim - 1)
        if tag in self.BLOCKS and tag != "br":
            self.parts.append("\n")

    def handle_data(self, data):
        if self.skip_depth == 0:
            self.parts.append(data if self.verbatim
                              else re.sub(r"\s+", " ", data))

    def text(self) -> str:
        lines = [line.rstrip() for line in "".join(self.parts).split("\n")]
        joined = "\n".join(re.sub(r"^ (?=\S)", "", line) for line in lines)
        return re.sub(r"\n{3,}", "\n\n", joined).replace("\xa0", " ").strip()


def html_pages(_root: Path, paths: list[Path]) -> Iterator[Document]:
    """Pages without their navigation."""
    for path in paths:
        source = read_text(path)
        if source is None:
            continue
        head = re.search(r"<title[^>]*>(.*?)</title>", source, re.S | re.I)
        title = html.unescape(re.sub(r"<[^>]*>|\s+", " ", head[1])).strip() \
            if head else path.stem
        parser = TextOf()
        parser.feed(source)
        text = parser.text()
        if len(text) > 500:
            yield path.name, title[:80], text


# --- others -------------------------------------------------------------------

def plain_files(_root: Path, paths: list[Path]) -> Iterator[Document]:
    """Text as it is: reStructuredText, POD, vim's help."""
    for path in paths:
        text = read_text(path)
        if text and len(text) > 500:
            name = path.name.split(".")[0]
            yield path.name, f"about {name}", text.expandtabs(8).strip()


def python_files(_root: Path, paths: list[Path]) -> Iterator[Document]:
    """Source files."""
    for path in paths:
        text = read_text(path)
        if text and len(text) > 500:
            yield path.name, f"python {path.name}", text.strip()


def fortune_files(_root: Path, paths: list[Path]) -> Iterator[Document]:
    """Ten fortunes are one document."""
    for path in paths:
        text = read_text(path)
        if not text or "\n%\n" not in text:
            continue
        entries = [e.strip() for e in text.expandtabs(8).split("\n%\n")]
        for at in range(0, len(entries), 10):
            yield (f"{path.name}-{at}", f"fortune {path.name}",
                   "\n%\n".join(entries[at:at + 10]))


def dictd_entries(_root: Path, paths: list[Path]) -> Iterator[Document]:
    """A dictd database in pieces of about 3000 characters, whole entries."""
    for path in paths:
        data = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        entries = re.split(r"\n(?=\S)", data)[20:]
        piece: list[str] = []
        for entry in entries:
            piece.append(entry.rstrip())
            if sum(map(len, piece)) > 3000:
                word = re.split(r"[\\\n,]", piece[0])[0].strip()
                yield f"{path.stem}-{word}", f"define {word}", \
                    "\n\n".join(piece)
                piece = []


def bible_chapters(root: Path, _paths: list[Path]) -> Iterator[Document]:
    """Chapters of the King James Bible; a book is one key.

    The text is stored compressed; the program of package bible-kjv prints it.
    """
    program = root.parent / "bible-kjv" / "usr/bin/bible"
    printed = subprocess.run(
        [program, "-p", root / "usr/lib", "-l72", "Gen1:1-Rev22:21"],
        check=True, capture_output=True, text=True,
        stdin=subprocess.DEVNULL).stdout
    for chapter in re.split(r"\n(?=(?:\d )?[A-Z][A-Za-z ]+ \d+\n\n)",
                            printed):
        title, _, verses = chapter.strip().partition("\n")
        if re.fullmatch(r"[\w ]+ \d+", title) and len(verses) > 100:
            yield title.rsplit(" ", 1)[0], title, f"{title}\n\n" + \
                re.sub(r"(?m)^  (?=\d)", "", verses.strip("\n"))
