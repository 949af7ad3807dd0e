# openai_venv.sh - the official openai package, from PyPI once (sourced)
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# get_openai, then $openai_python is the interpreter that has it.
openai_version=3.54.0
openai_python=build/openai-venv/bin/python
has_openai() {
	"$openai_python" -c "import openai
assert openai.__version__ == '$openai_version'" 2>/dev/null
}
# Suites run side by side: one installs, the others wait. What fails says why.
get_openai() {
	mkdir -p build
	(
		flock 9
		has_openai && exit
		python3 -m venv build/openai-venv &&
			build/openai-venv/bin/pip install -q \
				--disable-pip-version-check --retries 1 \
				"openai==$openai_version"
	) 9>build/openai-venv.lock
	has_openai
}
