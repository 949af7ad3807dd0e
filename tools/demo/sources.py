# sources.py - which Debian packages the demo model is trained on
# SPDX-License-Identifier: Apache-2.0
"""One row per source of text: package, files in it, converter, domain, cap.

Every package is in Debian's main archive, so its licence allows copying and
change; `licence` is what the package's copyright file says of the texts.
"""

from dataclasses import dataclass

GENERAL = "general"
DOMAINS = ("scripture", "german", "python", "dictionary")
ALL_DOMAINS = (GENERAL, *DOMAINS)


@dataclass(frozen=True)
class Source:
    """Files of one package that match a regular expression."""

    package: str
    domain: str
    convert: str  # name of a function in converters.py
    files: str  # regular expression, searched in the path
    licence: str
    cap_mb: float = 100.0  # no more than this much text from the package
    skip: str = r"$^"  # paths to leave out


_MAN = r"/man/(de/)?man\d/"
_PY_SKIP = r"test|/_vendor/|/locale|unicodedata|/encodings/|pydoc_data"

SOURCES = (
    Source("manpages", GENERAL, "man_pages", _MAN, "GPL-2+, BSD, others"),
    Source("manpages-dev", GENERAL, "man_pages", _MAN,
           "GPL-2+, BSD, others"),
    Source("git-man", GENERAL, "man_pages", _MAN, "GPL-2"),
    Source("systemd", GENERAL, "man_pages", _MAN, "LGPL-2.1+"),
    Source("debian-handbook", GENERAL, "html_pages", r"/en-US/.*\.html$",
           "GPL-2+ or CC-BY-SA-3.0"),
    Source("debian-policy", GENERAL, "html_pages",
           r"policy\.html/.*\.html$", "GPL-2+"),
    Source("developers-reference", GENERAL, "html_pages",
           r"developers-reference/[^/]*\.html$", "GPL-2+"),
    Source("debian-reference-en", GENERAL, "html_pages",
           r"\.en\.html$", "GPL-2+"),
    Source("maint-guide", GENERAL, "html_pages", r"\.en\.html$", "GPL-2+"),
    Source("debian-faq", GENERAL, "html_pages", r"\.en\.html$",
           "copyleft of its own (copies and changes under the same terms)"),
    Source("doc-debian", GENERAL, "plain_files", r"\.txt(\.gz)?$",
           "GPL-2+, CC-BY-SA-3.0"),
    Source("anarchism", GENERAL, "html_pages", r"\.html$",
           "GPL-2+", 7),
    Source("linux-doc-6.1", GENERAL, "plain_files",
           r"/Documentation/.*\.rst\.gz$", "GPL-2", 7,
           r"translations|/devicetree/|features"),
    Source("python3.11-doc", GENERAL, "plain_files",
           r"_sources/.*\.rst\.txt$", "PSF-2", 6),
    Source("perl-doc", GENERAL, "plain_files", r"\.pod$",
           "Artistic or GPL-1+", 5, r"perl5\d+delta|perl(cn|jp|ko|tw)\.pod"),
    Source("vim-runtime", GENERAL, "plain_files", r"/doc/.*\.txt$",
           "Vim licence", 4),
    Source("apache2-doc", GENERAL, "html_pages", r"\.html(\.en)?$",
           "Apache-2.0", 3, r"\.(de|es|fr|ja|ko|tr|da|pt-br|zh-cn|ru)\."),
    Source("postgresql-doc-15", GENERAL, "html_pages", r"\.html$",
           "PostgreSQL", 4, r"release-|bookindex"),
    Source("sqlite3-doc", GENERAL, "html_pages", r"\.html$",
           "public domain", 3, r"keyword_index|hlr|requirements"),
    Source("fortunes", GENERAL, "fortune_files",
           r"/games/fortunes/[^/.]*$", "BSD"),
    Source("fortunes-min", GENERAL, "fortune_files",
           r"/games/fortunes/[^/.]*$", "BSD"),
    Source("dict-jargon", GENERAL, "dictd_entries", r"\.dict\.dz$",
           "public domain"),
    Source("dict-foldoc", GENERAL, "dictd_entries", r"\.dict\.dz$",
           "GFDL-1.1+ (no invariant sections)", 3),
    Source("bible-kjv-text", "scripture", "bible_chapters", r"bible\.data$",
           "public domain"),
    Source("manpages-de", "german", "man_pages", _MAN, "GPL-3+, others", 12),
    Source("libpython3.11-stdlib", "python", "python_files", r"\.py$",
           "PSF-2", 100, _PY_SKIP),
    Source("python3-django", "python", "python_files", r"\.py$",
           "BSD-3-clause", 3, _PY_SKIP),
    Source("python3-networkx", "python", "python_files", r"\.py$",
           "BSD-3-clause", 3, _PY_SKIP),
    Source("python3-twisted", "python", "python_files", r"\.py$", "MIT", 3,
           _PY_SKIP),
    Source("mercurial-common", "python", "python_files", r"\.py$", "GPL-2+",
           3, _PY_SKIP),
    Source("dict-gcide", "dictionary", "dictd_entries", r"\.dict\.dz$",
           "GPL-2+", 16),
)

# Not a source of text: the program that unpacks bible-kjv-text.
TOOL_PACKAGES = ("bible-kjv",)
