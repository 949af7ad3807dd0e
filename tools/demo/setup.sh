#!/bin/sh
# setup.sh - the pinned Python packages of the demo's training (name -> venv)
# SPDX-License-Identifier: Apache-2.0
# usage: tools/demo/setup.sh FOLDER
set -eu
[ -x "$1/bin/python" ] || python3 -m venv "$1"
"$1/bin/pip" install -q torch==2.8.0 transformers==5.23.0 safetensors==0.8.0 \
	tokenizers==0.23.3 numpy==2.4.6 peft==0.21.2 jinja2==3.1.6
