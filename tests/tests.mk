# tests.mk - the test programs and what each one links: the list is the proof
# that a module stands alone (included by Makefile)
# SPDX-License-Identifier: Apache-2.0

# $(call test,NAME,SOURCES,WRAPPED): build/tests/test_NAME links its own file,
# the frame and SOURCES; WRAPPED functions pass through tests/fake/fake_os.c.
test = $(eval TESTS += $$(B)/tests/test_$(1))$(eval $$(B)/tests/test_$(1): \
	$$(call obj,tests/test_$(1).c tests/suite.c $(2)))$(eval \
	$$(B)/tests/test_$(1): WRAP = $(foreach f,$(3),-Wl,--wrap=$(f)))

allocators = malloc calloc realloc reallocarray strdup strndup \
	posix_memalign aligned_alloc free
mappers = memfd_create ftruncate fallocate mmap mprotect munmap
files = open openat fstat read pread close
uring = io_uring_queue_init io_uring_submit_and_wait io_uring_queue_exit fcntl

reference_c = $(gpu_c) base/dtype.c base/error.c
engine_test_c = tests/engine_case.c control/model_dir.c $(library_c)

$(call test,check,)
$(call test,error,base/error.c)
$(call test,clock,base/clock.c)
$(call test,bus_guard,base/bus_guard.c)
$(call test,log,base/log.c)
$(call test,dtype,base/dtype.c)
$(call test,ring,base/ring.c)
$(call test,request,base/request.c)
$(call test,counters,base/counters.c)
$(call test,capture,dataplane/capture.c base/counters.c base/clock.c base/error.c)
$(call test,poll_meter,dataplane/poll_meter.c base/counters.c)
$(call test,siphash,base/siphash.c)
$(call test,adapter_table,base/adapters.c)
$(call test,mail,engine/mail.c engine/files.c base/wake.c base/clock.c \
	base/error.c)
$(call test,segment,base/segment.c base/counters.c base/ring.c base/wake.c \
	base/clock.c base/error.c tests/fake/fake_os.c,$(mappers) eventfd close)

vmm_test_c = memmgr/vmm_host.c base/error.c base/clock.c \
	tests/fake/fake_vmm.c tests/fake/fake_os.c tests/fake/aborts.c
pages_test_c = memmgr/pages.c memmgr/number_set.c $(vmm_test_c)
experts_test_c = memmgr/experts.c memmgr/experts_create.c \
	memmgr/experts_check.c memmgr/expert_shape.c memmgr/range.c \
	base/dtype.c $(pages_test_c)
kv_test_c = memmgr/kv.c memmgr/kv_layout.c base/dtype.c $(pages_test_c)

$(call test,number_set,memmgr/number_set.c tests/fake/aborts.c)
$(call test,vmm,$(vmm_test_c),$(allocators) $(mappers) $(files))
$(call test,large_pages,$(vmm_test_c),$(allocators) $(mappers) madvise $(files))
$(call test,pages,$(pages_test_c),$(allocators) $(mappers) $(files))
$(call test,range,memmgr/range.c $(pages_test_c))
$(call test,experts,$(experts_test_c),$(allocators) $(mappers) $(files))
$(call test,expert_sizes,$(experts_test_c))
$(call test,kv,$(kv_test_c),$(allocators) $(mappers) $(files))
$(call test,memmgr,$(sort $(experts_test_c) $(kv_test_c)))

$(call test,kv_cache,engine/kv_cache.c base/siphash.c $(kv_test_c),\
	$(allocators) siphash_end)

$(call test,workers,gpu/cpu/workers.c)
$(call test,panels,tests/ops_case.c $(reference_c))
$(if $(x86),$(call test,gemm_amx,tests/ops_case.c $(reference_c)))
$(call test,linear,tests/ops_case.c $(reference_c))
$(call test,norm,tests/ops_case.c $(reference_c))
$(call test,chain,tests/ops_case.c $(reference_c))
$(call test,isa,tests/ops_case.c $(reference_c))
$(call test,attention,tests/ops_case.c $(reference_c))
$(call test,mla,tests/ops_case.c $(reference_c))
$(call test,router,tests/ops_case.c $(reference_c))
$(call test,moe,tests/ops_case.c $(reference_c))
$(call test,expert_reads,tests/ops_case.c $(reference_c))
$(call test,sample,tests/ops_case.c $(reference_c))

json_c = base/json_text.c base/error.c tests/fake/fake_os.c
config_test_c = engine/config.c engine/config_families.c \
	engine/config_experts.c engine/rope.c engine/generation.c $(json_c)
plan_test_c = engine/plan.c engine/names.c engine/roles.c \
	engine/weight_index.c engine/safetensors.c engine/files.c \
	control/model_dir.c base/dtype.c tests/st_builder.c tests/st_model.c \
	tests/checkpoint.c $(config_test_c)

$(call test,config,tests/published_configs.c $(config_test_c),$(allocators))
$(call test,safetensors,engine/safetensors.c tests/st_builder.c \
	$(json_c),$(allocators) fstat pread)
$(call test,plan,$(plan_test_c),$(allocators) fstat pread)
$(call test,model_dir,control/model_dir.c engine/files.c base/error.c \
	tests/fake/fake_os.c,$(allocators) $(files))
$(call test,step,engine/step.c base/error.c)
$(call test,program,engine/program.c)
$(call test,reader,tests/fake/fake_os.c engine/reader.c base/error.c \
	base/bus_guard.c,$(uring) mmap)
$(call test,load,tests/fake/fake_os.c tests/st_builder.c tests/load_check.c \
	control/model_dir.c $(library_c),$(allocators) $(mappers) $(files) $(uring))
rank_c = $(wildcard engine/rank*.c) engine/mail.c engine/files.c \
	base/adapters.c base/log.c
$(call test,null,$(wildcard engine/null*.c) $(rank_c) \
	base/segment.c base/counters.c base/ring.c base/request.c base/wake.c \
	base/clock.c base/error.c)
$(call test,rank,$(rank_c) base/segment.c base/counters.c base/ring.c \
	base/request.c base/wake.c base/clock.c base/error.c)
$(call test,sched,engine/sched.c engine/sched_model.c tests/fake/fake_os.c,\
	$(allocators))
serve_test_c = tests/serve_case.c tests/adapter_case.c tests/st_builder.c \
	$(engine_test_c)
$(call test,serve,tests/fake/fake_os.c $(serve_test_c),$(allocators))
$(call test,governor,engine/governor.c)
$(call test,lane_cores,engine/lane_cores.c)
$(call test,ahead,engine/ahead.c tests/fake/fake_os.c,$(allocators))
$(call test,live_adapters,tests/live_case.c $(serve_test_c))
$(call test,live_pool,tests/live_case.c $(serve_test_c))
$(call test,golden,$(engine_test_c))
$(call test,invariance,$(engine_test_c))
$(call test,adapter_plan,tests/fake/fake_os.c tests/adapter_case.c \
	tests/st_builder.c tests/st_model.c $(library_c),$(allocators) fstat pread)
$(call test,adapter,tests/fake/fake_vmm.c tests/fake/fake_os.c \
	tests/adapter_case.c tests/st_builder.c control/model_dir.c \
	$(library_c),$(allocators) $(files) $(uring))
$(call test,adapter_random,tests/fake/fake_vmm.c tests/adapter_case.c \
	tests/st_builder.c control/model_dir.c $(library_c))
$(call test,woven,tests/adapter_case.c tests/st_builder.c $(engine_test_c))


tokenizer_c = $(wildcard dataplane/tokenizer*.c) dataplane/detokenizer.c \
	dataplane/stop_set.c dataplane/utf8.c base/error.c base/json_text.c
$(call test,tokenizer,tests/text_case.c tests/fake/fake_os.c \
	$(tokenizer_c),$(allocators))
$(call test,tokenizer_bpe,tests/text_case.c $(tokenizer_c))
$(call test,tokenizer_pattern,dataplane/tokenizer_pattern.c \
	dataplane/tokenizer_pattern_ascii.c \
	dataplane/tokenizer_pattern_translate.c \
	dataplane/tokenizer_unicode.c dataplane/utf8.c base/error.c)
$(call test,detokenizer,tests/text_case.c tests/fake/fake_os.c \
	$(tokenizer_c),$(allocators))
$(call test,text_golden,tests/text_case.c $(tokenizer_c))

jinja_c = $(wildcard dataplane/jinja*.c) base/error.c base/clock.c
$(call test,jinja,tests/fake/fake_os.c $(jinja_c),$(allocators))
$(call test,chat,tests/fake/fake_os.c dataplane/chat.c $(jinja_c),$(allocators))

http_c = dataplane/http.c dataplane/http_head.c dataplane/http_fields.c
$(call test,http,$(http_c))

# Streams: the cases against stream.h, over the back end that is linked.
stream_kernel_c = $(wildcard dataplane/stream_kernel*.c) $(stream_tls_c) \
	dataplane/poll_meter.c base/counters.c
stream_tls_c = $(wildcard dataplane/stream_tls*.c dataplane/tls_*.c) \
	dataplane/unit_pool.c
stream_test_c = tests/stream_case.c tests/pattern.c tests/stream_backend_kernel.c \
	tests/fake/fake_os.c $(stream_kernel_c) base/error.c base/clock.c
stream_wraps = $(allocators) mmap munmap io_uring_queue_init io_uring_queue_exit
$(call test,stream,$(stream_test_c),$(stream_wraps))
$(call test,stream_end,$(stream_test_c),$(stream_wraps))
$(call test,stream_kernel,$(stream_test_c),$(stream_wraps))
$(call test,stream_tls,tests/tls_identity.c $(stream_test_c))
tls_record_c = $(wildcard dataplane/tls_*.c) base/error.c
$(call test,tls_record,tests/tls_duo.c tests/tls_identity.c tests/pattern.c \
	$(tls_record_c))

# Our own TCP, over a wire in virtual time.
tcp_test_c = tests/wire.c tests/wire_peer.c tests/tcp_case.c tests/pattern.c \
	$(tcp_c)
$(call test,timer_wheel,dataplane/timer_wheel.c)
$(call test,text_ring,dataplane/text_ring.c)
$(call test,tcp_wire,$(tcp_test_c))
$(call test,tcp_move,$(tcp_test_c))
$(call test,net,$(tcp_test_c))
$(call test,net_peers,$(tcp_test_c))
$(call test,tcp_attack,$(tcp_test_c))
$(call test,tcp_rate,$(tcp_test_c))
$(call test,tcp_linux,$(tcp_test_c))
$(call test,tcp_segment,tests/tcp_script.c $(addprefix tests/tcp_cases_,open.c \
	data.c loss.c close.c attack.c) $(tcp_test_c))

# The stream cases over our own TCP; the clients are liblwip's.
ifneq ($(wildcard /usr/include/lwip/lwip/tcp.h),)
stream_tcp_test_c = tests/stream_case.c tests/stream_backend_tcp.c \
	tests/lwip_host.c tests/pattern.c tests/suite.c tests/fake/fake_os.c \
	dataplane/stream_tcp.c \
	$(filter-out base/clock.c,$(sort $(tcp_c) $(stream_tls_c)))
$(B)/tests/lwip_host.c.o: ALL += -isystem /usr/include/lwip
$(B)/tests/test_stream_tcp $(B)/tests/test_stream_tcp_end \
	$(B)/tests/test_stream_tcp_tls: LINK += \
	-Wl,--export-dynamic-symbol=sys_now -ldl
$(B)/tests/test_stream_tcp $(B)/tests/test_stream_tcp_end \
	$(B)/tests/test_stream_tcp_tls: WRAP = \
	$(foreach f,$(allocators) socket connect setsockopt getsockname send \
	recv shutdown,-Wl,--wrap=$(f))
$(B)/tests/test_stream_tcp: $(call obj,tests/test_stream.c $(stream_tcp_test_c))
$(B)/tests/test_stream_tcp_end: \
	$(call obj,tests/test_stream_end.c $(stream_tcp_test_c))
$(B)/tests/test_stream_tcp_tls: \
	$(call obj,tests/test_stream_tls.c tests/tls_identity.c \
	$(stream_tcp_test_c))
TESTS += $(B)/tests/test_stream_tcp $(B)/tests/test_stream_tcp_end \
	$(B)/tests/test_stream_tcp_tls
$(call test,stream_nic,$(sort tests/lwip_host.c tests/pattern.c \
	dataplane/stream_nic.c dataplane/stream_tcp.c dataplane/capture.c \
	dataplane/frame_ring.c \
	$(stream_kernel_c) $(tcp_c)))
$(B)/tests/test_stream_nic: LINK += -Wl,--export-dynamic-symbol=sys_now -ldl
$(call test,stream_nic_queues,$(sort tests/lwip_host.c tests/pattern.c \
	dataplane/stream_nic.c dataplane/stream_tcp.c dataplane/capture.c \
	dataplane/frame_ring.c $(stream_kernel_c) $(tcp_c)))
$(B)/tests/test_stream_nic_queues: LINK += -Wl,--export-dynamic-symbol=sys_now -ldl
$(call test,tcp_lwip,tests/lwip_host.c $(tcp_test_c))
$(B)/tests/test_tcp_lwip: LINK += -Wl,--export-dynamic-symbol=sys_now -ldl
endif

# A polled port: DPDK's, over its ring in memory.
ifneq ($(DPDK),)
$(call test,nic,tests/pattern.c tests/fake/fake_ports_dpdk.c $(dpdk_c) \
	base/log.c base/error.c,\
	rte_eth_dev_info_get rte_eth_dev_configure rte_eth_link_get_nowait)
$(B)/tests/fake/fake_ports_dpdk.c.o: ALL += $(DPDK_FLAGS)
$(B)/tests/test_nic: LIBS += $(DPDK_LIBS)
endif

# The role that faces clients: its parts, then the whole over streams in memory
# and over the kernel's.
api_c = $(filter-out dataplane/api_reply.c dataplane/api_logprobs.c, \
	$(wildcard dataplane/api*.c)) dataplane/stop_set.c dataplane/utf8.c \
	base/json_text.c base/error.c base/adapters.c $(http_c)
front_c = $(filter-out $(nic_c),$(dataplane_c)) dataplane/nic_absent.c \
	base/segment.c base/counters.c base/ring.c \
	base/request.c base/wake.c base/clock.c base/error.c base/json_text.c \
	base/siphash.c base/adapters.c
front_test_c = tests/front_case.c tests/text_case.c tests/fake/fake_stream.c \
	$(front_c)
$(call test,api,$(api_c))
$(call test,metrics,dataplane/metrics.c dataplane/api_text.c \
	dataplane/utf8.c base/adapters.c base/segment.c base/counters.c base/ring.c \
	base/request.c base/wake.c base/clock.c base/error.c)
$(call test,front,tests/fake/fake_os.c $(front_test_c),$(allocators))
$(call test,front_faults,$(front_test_c))
$(call test,front_adapters,$(front_test_c))
$(call test,front_run,$(front_test_c))
$(call test,text_worker,$(front_test_c))

# Control: options, the socket of heddlectl, and a whole node in one process.
options_c = $(wildcard control/options*.c) base/error.c
$(call test,options,control/keys.c tests/fake/fake_os.c $(options_c),\
	$(allocators))
$(call test,control,control/control_socket.c control/command.c \
	control/heddlectl_text.c control/notify.c base/clock.c base/error.c)
$(call test,manifest,tests/fake/fake_os.c $(trust_c) engine/files.c \
	base/adapters.c base/json_text.c base/error.c,$(allocators) $(files))
$(call test,adapters,$(wildcard control/adapters*.c) engine/files.c dataplane/utf8.c \
	base/adapters.c base/segment.c base/counters.c base/ring.c base/wake.c \
	base/clock.c base/error.c base/log.c)
$(call test,role_drop,control/role_drop.c base/error.c)
$(call test,role_cores,control/role_cores.c)
$(call test,role_adapter,control/role_adapter.c control/role_channel.c \
	control/model_dir.c engine/files.c base/adapters.c base/log.c base/error.c)
node_test_c = $(addprefix control/node_,setup.c texts.c listen.c load.c nic.c \
	threads.c tls.c user.c) \
	control/role_channel.c control/role_adapter.c control/keys.c \
	$(trust_c) base/log.c \
	$(wildcard engine/null*.c) $(rank_c) engine/files.c \
	$(filter-out tests/%,$(config_test_c)) $(options_c) $(front_c)
$(call test,node,$(sort $(node_test_c)))

# The card probe: what of it needs no card; its host code against a driver
# library with no card behind it (built by bench/gpu/gpu.mk; 77 without CUDA's
# headers).
$(call test,probe_util,tests/probe_json_check.c $(addprefix bench/gpu/, \
	probe_stats.c probe_json.c probe_names.c probe_record.c probe_args.c \
	probe_report.c))
$(call test,probe_fake,tests/probe_json_check.c bench/gpu/probe_names.c \
	bench/gpu/probe_record.c)

$(call test,bench_load,$(serve_c))
$(call test,bench_serve,tests/bench_server.c $(serve_c))
$(call test,bench_report,bench/report.c base/error.c)
$(call test,bench_frontend,bench/frontend_bare.c bench/frontend_metrics.c \
	bench/node.c bench/frontend_load.c $(serve_c))

$(TESTS):
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(LINK) $(WRAP) -o $@ $(filter %.o,$^) -lcunit $(LIBS)

# heddle-eval as a user meets it.
TESTS += $(B)/tests/test_eval
$(B)/tests/test_eval: $(B)/heddle-eval
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/eval.sh $(B)\n' >$@
	@chmod +x $@

# Adapters in heddle-eval: woven, merged, taken apart again.
TESTS += $(B)/tests/test_adapter_sh
$(B)/tests/make_adapter: $(call obj,tests/make_adapter.c tests/suite.c \
	tests/adapter_case.c tests/st_builder.c control/model_dir.c $(library_c))
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(LINK) -o $@ $^ -lcunit $(LIBS)
$(B)/tests/test_adapter_sh: $(B)/heddle-eval $(B)/tests/make_adapter
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/adapter.sh $(B)\n' >$@
	@chmod +x $@

# heddled and heddlectl as a user meets them.
TESTS += $(B)/tests/test_node_sh
$(B)/tests/test_node_sh: $(B)/heddled $(B)/heddlectl
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/node.sh $(B)\n' >$@
	@chmod +x $@

# Cards given to DPDK and taken back, over a /sys of the test's own.
TESTS += $(B)/tests/test_nic_setup
$(B)/tests/test_nic_setup:
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/nic_setup.sh\n' >$@
	@chmod +x $@

# heddled over a port that is polled, in a network of its own.
dpdk_node = $(addprefix $(B)/tests/test_dpdk_node_,af_packet af_xdp tap)
TESTS += $(dpdk_node)
$(dpdk_node): $(B)/tests/test_dpdk_node_%: $(B)/heddled $(B)/heddlectl
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/dpdk_node.sh $(B) $*\n' >$@
	@chmod +x $@

# Adapters that come and go in a node that serves.
adapters_node = $(addprefix $(B)/tests/test_adapters_node_,null cpu)
TESTS += $(adapters_node)
$(adapters_node): $(B)/tests/test_adapters_node_%: $(B)/heddled \
	$(B)/heddlectl $(B)/heddle-eval $(B)/tests/make_adapter
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/adapters_node.sh $(B) $*\n' >$@
	@chmod +x $@

# Some seconds of what soak-adapters does.
TESTS += $(B)/tests/test_soak_adapters
$(B)/tests/test_soak_adapters: $(B)/heddled $(B)/heddlectl $(B)/heddle-eval \
	$(B)/tests/make_adapter
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/soak_adapters.sh $(B) 20\n' >$@
	@chmod +x $@

# What `make demo` does, and the bundled model.
TESTS += $(B)/tests/test_demo
$(B)/tests/test_demo: $(B)/heddled $(B)/heddle-bench $(B)/heddle-eval
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/demo.sh $(B)\n' >$@
	@chmod +x $@

TESTS += $(B)/tests/test_demo_adapters
$(B)/tests/test_demo_adapters: $(B)/heddled $(B)/heddle-eval
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/demo_adapters.sh $(B)\n' >$@
	@chmod +x $@

# Ranks that compute and are killed.
TESTS += $(B)/tests/test_serve_node
$(B)/tests/test_serve_node: $(B)/heddled $(B)/heddlectl
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/serve_node.sh $(B)\n' >$@
	@chmod +x $@

# heddle-bench, and the official Python client, against heddled.
TESTS += $(B)/tests/test_bench_node $(B)/tests/test_bench_batch
TESTS += $(B)/tests/test_bench_adapters $(B)/tests/test_bench_dataplane
TESTS += $(B)/tests/test_openai
$(B)/tests/test_bench_batch: $(B)/heddled $(B)/heddle-bench $(B)/heddle-eval
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/bench_batch.sh $(B)\n' >$@
	@chmod +x $@
$(B)/tests/test_bench_adapters: $(B)/heddle-bench
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/bench_adapters.sh $(B)\n' >$@
	@chmod +x $@
$(B)/tests/test_bench_dataplane: $(B)/heddle-bench
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/bench_dataplane.sh $(B)\n' >$@
	@chmod +x $@
$(B)/tests/test_bench_node: $(B)/heddled $(B)/heddle-bench
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/bench_node.sh $(B)\n' >$@
	@chmod +x $@
$(B)/tests/test_openai: $(B)/heddled
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/openai.sh $(B)\n' >$@
	@chmod +x $@

# Requests that mean harm; and half a minute of what soak-frontend does.
TESTS += $(B)/tests/test_abuse $(B)/tests/test_soak
$(B)/tests/test_abuse: $(B)/heddled $(B)/heddlectl
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/abuse.sh $(B)\n' >$@
	@chmod +x $@
$(B)/tests/test_soak: $(B)/heddled $(B)/heddlectl $(B)/heddle-bench
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/soak.sh $(B) $(if $(SAN),15,30)\n' >$@
	@chmod +x $@

# Half a minute of what soak-serve does.
TESTS += $(B)/tests/test_soak_serve
$(B)/tests/test_soak_serve: $(B)/heddled $(B)/heddlectl $(B)/heddle-bench
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/soak.sh $(B) 30 cpu\n' >$@
	@chmod +x $@

# GuideLLM against heddled; from PyPI into build/, so this needs a network.
compare-load-tool: $(B)/heddled $(B)/heddlectl
	@tests/load_tool.sh $(B)
.PHONY: compare-load-tool

# An hour, or SECONDS=N, of good load and of clients that leave in every way.
SECONDS = 3600
soak-frontend: $(B)/heddled $(B)/heddlectl $(B)/heddle-bench
	@tests/soak.sh $(B) $(SECONDS)
# The same of ranks that compute, at 80 % of what they can.
soak-serve: $(B)/heddled $(B)/heddlectl $(B)/heddle-bench
	@tests/soak.sh $(B) $(SECONDS) cpu
# Ten minutes of adapters that come and go under traffic (SECONDS=N).
soak-adapters: $(B)/heddled $(B)/heddlectl $(B)/heddle-eval \
	$(B)/tests/make_adapter
	@tests/soak_adapters.sh $(B) $(if $(findstring command,$(origin SECONDS)),$(SECONDS),600)
# MIXES=N requests in random company, each bitwise as it is alone; SIGKILLs of
# ranks under load on the bundled model (KILLS=N).
MIXES = 1000
KILLS = 100
soak-mixes: $(B)/tests/test_serve
	HEDDLE_TEST_MIXES=$(MIXES) $<
soak-kills: $(B)/heddled $(B)/heddlectl
	@MODEL=deploy/demo/model tests/serve_node.sh $(B) $(KILLS)
# Ten minutes (SECONDS=N) of full load on the dataplane over a wire that harms;
# then its books.
soak-dataplane: $(B)/heddle-bench
	@tools/bench/frontend-model.sh $(B)/bench/frontend-model
	@$< dataplane --model $(B)/bench/frontend-model --parts soak \
	--soak-seconds $(if $(findstring command,$(origin SECONDS)),$(SECONDS),600)
.PHONY: soak-frontend soak-serve soak-adapters soak-mixes soak-kills \
	soak-dataplane

# $(call fuzz,NAME,SOURCES): build/tests/replay_NAME runs the corpus as a plain
# test; build-fuzz/fuzz_NAME is made by `make fuzz`.
fuzz = $(eval FUZZ += $(1))$(eval fuzz_$(1)_c = tests/fuzz/fuzz_$(1).c $(2))$(eval \
	$$(B)/tests/replay_$(1): $$(call obj,tests/fuzz/replay.c \
	tests/fuzz/fuzz_$(1).c $(2)))
fuzz_engine_c = $(filter-out tests/fake/fake_os.c,$(config_test_c))

$(call fuzz,safetensors,engine/safetensors.c tests/st_builder.c \
	base/json_text.c base/error.c base/dtype.c)
$(call fuzz,config,engine/names.c engine/roles.c $(fuzz_engine_c))
$(call fuzz,index,tests/checkpoint.c tests/st_model.c tests/st_builder.c \
	engine/plan.c engine/names.c engine/roles.c engine/weight_index.c \
	engine/safetensors.c engine/files.c base/dtype.c $(fuzz_engine_c))

$(call fuzz,adapter_config,tests/st_model.c tests/st_builder.c \
	engine/adapter_config.c engine/names.c engine/roles.c $(fuzz_engine_c))

$(call fuzz,tokenizer_json,$(tokenizer_c))
$(call fuzz,encode,tests/text_case.c $(tokenizer_c))
$(call fuzz,jinja_source,dataplane/chat.c $(jinja_c))
$(call fuzz,jinja_input,dataplane/chat.c $(jinja_c))
$(call fuzz,http,$(http_c))
$(call fuzz,bench_response,$(addprefix bench/serve_,reply.c reply_chunk.c \
	http.c sse.c json.c fault.c stats.c))

$(call fuzz,api,$(api_c))
$(call fuzz,ring_messages,tests/fake/fake_stream.c $(front_c))

$(call fuzz,tcp_listen,tests/fuzz/tcp_steps.c $(tcp_c))
$(call fuzz,tcp_established,tests/fuzz/tcp_steps.c $(tcp_c))
$(call fuzz,tcp_closing,tests/fuzz/tcp_steps.c $(tcp_c))

$(call fuzz,tls_record,dataplane/tls_record.c dataplane/tls_aead.c)

$(call fuzz,manifest,control/manifest.c base/adapters.c base/json_text.c \
	base/error.c)
$(call fuzz,control_line,control/command.c base/error.c)
$(call fuzz,options_yaml,$(options_c))

REPLAYS = $(FUZZ:%=$(B)/tests/replay_%)
$(REPLAYS):
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(LINK) -o $@ $^ $(LIBS)

TESTS += $(B)/tests/test_fuzz_corpus
$(B)/tests/test_fuzz_corpus: $(REPLAYS)
	@printf '#!/bin/sh\nexec tests/fuzz/corpus.sh $(B) $(FUZZ)\n' >$@
	@chmod +x $@

# make fuzz [FUZZ_SECONDS=60]: libFuzzer on each target in turn; what it finds
# lands in build-fuzz/, to be added to tests/fuzz/corpus with its fix.
FUZZ_SECONDS = 60
fuzz:
	@mkdir -p build-fuzz
	$(foreach f,$(FUZZ),$(call fuzz_one,$(f)))

define fuzz_one
	clang -g -O1 $(filter-out -fsanitize=% -Werror,$(ALL)) \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
		-o build-fuzz/fuzz_$(1) $(fuzz_$(1)_c) $(LIBS)
	@mkdir -p build-fuzz/$(1)
	build-fuzz/fuzz_$(1) -max_total_time=$(FUZZ_SECONDS) -timeout=20 \
		-rss_limit_mb=3000 -artifact_prefix=build-fuzz/$(1)- \
		-print_final_stats=1 build-fuzz/$(1) tests/fuzz/corpus/$(1)

endef

# make soak-tcp [SEEDS=1000000]: many more seeds of the wire, on all cores.
SEEDS = 1000000
soak-tcp: $(B)/tests/test_tcp_wire
	tests/soak_tcp.sh $< $(SEEDS)

# make bench-tcp [TRANSFERS=60]: a segment's cost beside liblwip's and the
# kernel's, a flood of SYNs, and our throughput at 1 % loss beside Linux's.
TRANSFERS = 60
bench-tcp: $(B)/heddle-bench $(B)/tests/test_tcp_linux
	$(B)/heddle-bench tcp
	HEDDLE_TCP_RATE=$(TRANSFERS) $(B)/tests/test_tcp_linux

# Benchmarks drive nodes as other tests do: under a sanitizer those are enough.
TRIED = $(if $(SAN),$(filter-out $(addprefix $(B)/tests/test_bench_,node batch \
	adapters),$(TESTS)),$(TESTS))

tests: $(TRIED)

test: $(TRIED)
	@tests/run.sh $(if $(TALLY),-t $(TALLY)) $(TRIED)

# What has threads, for ThreadSanitizer.
THREADED = $(addprefix $(B)/tests/test_,ring mail adapter_table workers reader \
	text_worker golden woven segment null serve live_adapters stream_end front \
	front_faults front_run front_adapters role_adapter node bench_serve \
	capture)

tests-threads: $(THREADED)

test-threads: $(THREADED)
	@tests/run.sh $(if $(TALLY),-t $(TALLY)) $(THREADED)

.PHONY: fuzz soak-tcp bench-tcp tests test tests-threads test-threads
