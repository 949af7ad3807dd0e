#!/bin/bash
# load_tool.sh - GuideLLM, a public load tool, completes a run (-> verdict)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/load_tool.sh BUILD [VENV]   (ends with the line that run.sh reads)
# Needs Python 3.11 or newer with venv, PyPI and some 700 MB the first time
# (the last version that asks for no PyTorch). Where it cannot be had, the last
# line says so and the status is 77.
set -u
build=$1 venv=${2:-build/load-tool-venv}
version=0.3.1 seconds=10
. tests/null_node.sh
have() {
	"$venv/bin/python" -c "import importlib.metadata as m
assert m.version('guidellm') == '$version'" 2>/dev/null
}
if ! have; then
	echo "installing guidellm $version into $venv (some minutes, 700 MB)"
	if ! { python3 -m venv "$venv" &&
		"$venv/bin/pip" install -q --disable-pip-version-check \
			--retries 1 "guidellm==$version"; } >"$work/pip" 2>&1; then
		tail -n 3 "$work/pip"
		echo "guidellm $version cannot be installed here (python3-venv, PyPI)"
		exit 77
	fi
fi
start_node load_tool --null-step-us 2000
# It counts tokens with the model's own tokenizer, by transformers' rules.
mkdir "$work/tokenizer"
cp "$model/tokenizer.json" "$work/tokenizer/"
echo '{"tokenizer_class": "PreTrainedTokenizerFast"}' \
	>"$work/tokenizer/tokenizer_config.json"
# Prompts of its own making begin with any token, NUL among them, which this
# server takes in no string.
python3 - >"$work/prompts.jsonl" <<-'END'
	import json
	for i in range(2000):
	    print(json.dumps({"prompt": "%d " % i + "one two three " * 12,
	                      "output_tokens_count": 32}))
END
passed=0 failed=0
# run NAME TYPE OPTION...: every request it made was a success.
run() {
	local name=$1 type=$2
	shift 2
	env HF_HUB_OFFLINE=1 HF_HOME="$work/hf" \
		GUIDELLM__PREFERRED_ROUTE="$type" \
		"$venv/bin/guidellm" benchmark run --target "$api" \
		--processor "$work/tokenizer" \
		--data "$work/prompts.jsonl" \
		--max-seconds "$seconds" --disable-progress \
		--output-path "$work/$name.json" "$@" >"$work/out" 2>&1 &&
		python3 - "$work/$name.json" >>"$work/out" 2>&1 <<-'END'
			import json, sys
			for run in json.load(open(sys.argv[1]))["benchmarks"]:
			    totals = run["run_stats"]["requests_made"]
			    tokens = run["metrics"]["output_token_count"]["successful"]
			    for bad in run["requests"]["errored"]:
			        print("error:", bad["error"])
			    print("  %s" % totals, "output tokens: mean %.2f" % tokens["mean"])
			    assert totals["successful"] > 0 and totals["errored"] == 0
			    assert tokens["min"] == tokens["max"] == 32
		END
	if [ $? = 0 ]; then
		passed=$((passed + 1))
		grep "output tokens: mean" "$work/out"
		echo "  Test: load_tool $name ...passed"
	else
		failed=$((failed + 1))
		grep -v '[|=]' "$work/out" | tail -n 30
		echo "  Test: load_tool $name ...FAILED"
	fi
}
run synchronous text_completions --rate-type synchronous
run rate text_completions --rate-type poisson --rate 20
run chat chat_completions --rate-type concurrent --rate 8
echo "suite load_tool: $passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
