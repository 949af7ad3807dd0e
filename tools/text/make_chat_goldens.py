# make_chat_goldens.py - what Jinja2 makes of our templates (templates -> JSON)
# SPDX-License-Identifier: Apache-2.0
"""Writes the expected results under tests/golden-text/:

  jinja_cases.json         snippets.py: {"context", "now", "cases": [[template,
                           text or null for an error], ...], "refused_at_load",
                           "refused_at_run"}
  chat/conversations.json  conversations.py and the special tokens
  chat/NAME.json           for each chat/NAME.jinja twenty texts or nulls

and the seeds of two fuzzers under tests/fuzz/corpus/: jinja_source (the
snippets, several to a file, and our templates) and jinja_input (the
conversations).

Needs jinja2 and transformers (tools/text/setup_templates.sh installs them); the
results do not depend on the machine or the day.
"""

import json
import pathlib
import re

import conversations
import oracle
import snippets

TESTS = pathlib.Path(__file__).resolve().parents[2] / "tests"
ROOT = TESTS / "golden-text"
CORPUS = TESTS / "fuzz" / "corpus"
ADDRESS = re.compile(r"0x[0-9a-f]{8,}")


def text_or_none(render, *args, **kwargs):
    try:
        text = render(*args, **kwargs)
    except oracle.Refused:
        return None
    # An object's address is no result; we refuse to print such objects.
    return None if ADDRESS.search(text) else text


def write(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=0) + "\n",
                    encoding="utf-8")


def write_seeds(cases):
    """The snippets that load, ten to a file; those that do not, alone."""
    folder = CORPUS / "jinja_source"
    folder.mkdir(parents=True, exist_ok=True)
    good = [t for t, text in cases if text is not None]
    bad = [t for t, text in cases if text is None]
    for i in range(0, len(good), 10):
        (folder / ("good_%02d" % (i // 10))).write_text(
            "\n".join(good[i:i + 10]), encoding="utf-8")
    for i, template in enumerate(bad[::4]):
        (folder / ("bad_%02d" % i)).write_text(template, encoding="utf-8")
    for path in (ROOT / "chat").glob("*.jinja"):
        (folder / path.stem).write_bytes(path.read_bytes())
    folder = CORPUS / "jinja_input"
    folder.mkdir(parents=True, exist_ok=True)
    for i, conversation in enumerate(conversations.CONVERSATIONS):
        known = ("messages", "tools", "documents", "add_generation_prompt")
        request = {key: conversation[key] for key in known if key in conversation}
        request["kwargs"] = {key: value for key, value in conversation.items()
                             if key not in known}
        (folder / ("conversation_%02d" % i)).write_text(
            json.dumps(request, ensure_ascii=False), encoding="utf-8")
    marked = {"messages": [{"role": "user", "content": "a\u2603b"},
                           {"role": "assistant", "content": "\u2603"}],
              "tools": [{"function": {"name": "\u2603", "description": "\u2603",
                                      "parameters": {"\u2603": "\u2603"}}}],
              "kwargs": {"\u2603": 1, "thinking": "\u2603"}}
    (folder / "marked").write_text(json.dumps(marked), encoding="utf-8")


def main():
    cases = [[t, text_or_none(oracle.render, t, snippets.CONTEXT)]
             for t in snippets.SNIPPETS]
    write_seeds(cases)
    write(ROOT / "jinja_cases.json", {
        "context": snippets.CONTEXT, "now": oracle.NOW_LIST,
        "cases": cases,
        "refused_at_load": snippets.REFUSED,
        "refused_at_run": snippets.REFUSED_AT_RUN})
    write(ROOT / "chat" / "conversations.json", {
        "now": oracle.NOW_LIST, "special_tokens": conversations.SPECIAL_TOKENS,
        "conversations": conversations.CONVERSATIONS})
    for path in sorted((ROOT / "chat").glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        write(path.with_suffix(".json"), [
            text_or_none(oracle.render_chat, source,
                         **{**conversations.SPECIAL_TOKENS, **c})
            for c in conversations.CONVERSATIONS])


if __name__ == "__main__":
    main()
