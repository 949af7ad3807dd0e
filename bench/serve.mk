# serve.mk - the load generator and the front end's benchmark (included by Makefile)
# SPDX-License-Identifier: Apache-2.0
serve_c = $(wildcard bench/serve*.c) base/clock.c base/error.c
heddle_bench_c = bench/heddle_bench.c bench/ask.c $(wildcard bench/frontend*.c) \
	bench/report.c $(serve_c)

$(B)/heddle-bench: $(call obj,$(heddle_bench_c))
	@echo "  LD $@"
	$(Q)$(CC) $(LINK) -o $@ $^ $(LIBS)

# The front end beside a bare loop, 10,000 streams, long prompts, idle
# connections: a table here and build/bench/frontend.json; some two minutes on a
# machine that does nothing else. FRONTEND="--parts ceiling" and the like.
bench-frontend: $(B)/heddle-bench $(B)/heddled
	@tools/bench/frontend-model.sh $(B)/bench/frontend-model
	@$(B)/heddle-bench frontend --heddled $(B)/heddled \
		--model $(B)/bench/frontend-model \
		--json $(B)/bench/frontend.json $(FRONTEND)

.PHONY: bench-frontend
