# tests.mk - the test programs and what each one links: the list is the proof
# that a module stands alone (included by Makefile)
# SPDX-License-Identifier: Apache-2.0
suite_o = $(call obj,tests/suite.c)
# $(call test,NAME,SOURCES): build/tests/test_NAME
test = $(eval TESTS += $$(B)/tests/test_$(1))$(eval $$(B)/tests/test_$(1): \
	$$(call obj,tests/test_$(1).c tests/suite.c $(2)))

error_c = base/error.c

$(call test,check,)
$(call test,error,base/error.c)
$(call test,clock,base/clock.c)
$(call test,log,base/log.c)
$(call test,dtype,base/dtype.c)
$(call test,ring,base/ring.c)
$(call test,request,base/request.c)
$(call test,step,engine/step.c base/error.c)

$(TESTS):
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(LINK) $(WRAP) -o $@ $^ -lcunit $(LIBS)

tests: $(TESTS)

test: $(TESTS)
	@tests/run.sh $(if $(TALLY),-t $(TALLY)) $(TESTS)
