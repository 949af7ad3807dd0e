# compare_chat.py - real chat templates, ours against Jinja2 (templates -> counts)
# SPDX-License-Identifier: Apache-2.0
"""compare_chat.py PROGRAM FOLDER...

Renders the twenty conversations of conversations.py with every template
under the folders, once by transformers and once by PROGRAM (jinja_render),
and compares byte for byte. A template is a *.jinja file, or what a
tokenizer_config.json has under "chat_template". The templates stay where
they are: their licences are their own. Exit status 1 when one differs, or
when there is none. `make compare-chat` fetches some and runs this.
"""

import json
import pathlib
import re
import subprocess
import sys

import conversations
import oracle

ADDRESS = re.compile(r"\bat 0x[0-9a-f]+>")


class Ours:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def render(self, source, kwargs):
        kwargs = dict(kwargs)
        request = {"template": source, "now": oracle.NOW_LIST,
                   **{key: kwargs.pop(key, None) for key in
                      ("messages", "tools", "documents")},
                   "add_generation_prompt": kwargs.pop("add_generation_prompt", False),
                   "kwargs": kwargs}
        self.process.stdin.write((json.dumps(request) + "\n").encode())
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the program ended")
        return json.loads(line)


def templates(folder):
    for path in sorted(pathlib.Path(folder).rglob("*")):
        if path.suffix == ".jinja":
            yield path.name, path.read_text(encoding="utf-8")
        elif path.name == "tokenizer_config.json":
            found = json.loads(path.read_text(encoding="utf-8")).get("chat_template")
            for entry in found if isinstance(found, list) else [{"name": "", "template": found}]:
                if entry["template"]:
                    yield "%s %s" % (path, entry["name"]), entry["template"]


def compare(ours, source):
    """(equal texts, equal errors, differences as text)."""
    texts = errors = 0
    different = []
    for number, conversation in enumerate(conversations.CONVERSATIONS):
        kwargs = {**conversations.SPECIAL_TOKENS, **conversation}
        try:
            want, why = oracle.render_chat(source, **kwargs), None
        except oracle.Refused as error:
            want, why = None, str(error)
        got = ours.render(source, kwargs)
        if want is not None and ADDRESS.search(want):
            continue
        if got.get("output") != want:
            different.append("conversation %d\n    want %r\n    got  %r" % (
                number, want if why is None else why, got.get("output", got.get("error"))))
        elif want is None:
            errors += 1
        else:
            texts += 1
    return texts, errors, different


def main():
    ours = Ours(sys.argv[1])
    seen, equal, texts, errors = set(), 0, 0, 0
    for folder in sys.argv[2:]:
        for name, source in templates(folder):
            if source in seen:
                continue
            seen.add(source)
            text, error, different = compare(ours, source)
            texts += text
            errors += error
            equal += not different
            for line in different:
                print("%s: %s" % (name, line))
    print("%d of %d templates agree: %d texts equal, %d conversations refused by both"
          % (equal, len(seen), texts, errors))
    return equal != len(seen) or not seen


if __name__ == "__main__":
    sys.exit(main())
