#!/bin/bash
# setup-peer.sh - the engine that bench-cpu compares with (PyPI -> venv)
# SPDX-License-Identifier: Apache-2.0
# usage: setup-peer.sh DIR
# Builds llama.cpp from llama-cpp-python's sources for this very processor; ten
# to twenty minutes of two cores. Prints what it was built with.
set -euo pipefail
dir=${1:?directory of the virtual environment}
version=0.3.36
if [ ! -x "$dir/bin/python" ]; then
	python3 -m venv "$dir"
fi
if ! "$dir/bin/python" -c 'import llama_cpp, gguf' 2>/dev/null; then
	export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-2}
	export CMAKE_ARGS="-DGGML_NATIVE=ON -DGGML_LLAMAFILE=ON \
-DGGML_OPENMP=ON -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF \
-DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF"
	"$dir/bin/pip" install --quiet --no-binary llama-cpp-python \
		"llama-cpp-python==$version" gguf==0.19.0
fi
"$dir/bin/python" - <<'EOF'
import llama_cpp
info = llama_cpp.llama_print_system_info().decode()
print("llama-cpp-python", llama_cpp.__version__, info)
EOF
