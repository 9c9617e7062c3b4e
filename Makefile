# SPDX-License-Identifier: GPL-3.0-or-later
#
#   make              build ./keel                 make quickstart   the main job, from nothing
#   make test         all tests                    make asan         the same under sanitizers
#   make bench        speed, one JSON line a case  make fuzz         the parsers, 60 s each
#   make help         every target
#
# One build directory per variant; adding a file edits no list.

# ---- what the program needs: pkg-config name, Debian package, what for ----
# The one list: `make deps` installs what is missing.
DEPS := openblas:libopenblas-dev:matrix_products \
        gsl:libgsl-dev:random_numbers_and_statistics \
        yaml-0.1:libyaml-dev:configuration_files \
        jansson:libjansson-dev:JSON \
        libpcre2-8:libpcre2-dev:tokenizer_expressions \
        libutf8proc:libutf8proc-dev:Unicode \
        libcrypto:libssl-dev:SHA-256 \
        cmocka:libcmocka-dev:tests
TOOLS := cc:gcc make:make pkg-config:pkg-config

V   ?= release
B   ?= build/$(V)
CC  := cc
STD := -std=gnu11 -fno-math-errno
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wwrite-strings \
        -Wundef -Wpointer-arith $(if $(CI),-Werror)
OPT_release := -O3 -g
OPT_double  := -O2 -g -DREAL_DOUBLE
OPT_debug   := -Og -g -DKEEL_DEBUG
OPT_asan    := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all -DKEEL_NO_CLONES
OPT := $(OPT_$(V))
PKGS = $(foreach d,$(DEPS),$(word 1,$(subst :, ,$(d))))
# gsl's own .pc adds the slow reference BLAS; it must not be bound instead of OpenBLAS
PC   = pkg-config --define-variable=GSL_CBLAS_LIB=-lopenblas
CFLAGS  = $(STD) $(OPT) $(WARN) -fopenmp -I. -MMD -MP $(shell $(PC) --cflags $(filter-out cmocka,$(PKGS)))
LDLIBS  = $(shell $(PC) --libs $(filter-out cmocka,$(PKGS))) -lm
TESTLIBS = $(shell $(PC) --libs cmocka)

SRC   := $(filter-out train/main.c,$(wildcard model/*.c model/ops/*.c model/arch/*.c ckpt/*.c train/*.c attrib/*.c))
OBJ   := $(SRC:%.c=$(B)/%.o)
LIB   := $(B)/libkeel.a
TESTS := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/test_*.c))
GRADS := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/grad_*.c))
HELPERS := $(patsubst %.c,$(B)/%.o,$(wildcard tests/helper*.c))

.PHONY: all help deps test asan quickstart bench fuzz clean loc install-deps tests-built grads-built partial
.DELETE_ON_ERROR:

all: keel
help:
	@sed -n '3,8p' Makefile | cut -c3-
	@echo '  make deps         install missing packages       make debug        ./build/debug/keel'
	@echo '  make loc          lines per room                 make clean        remove build/'

# Prints one line and installs only when something is missing.
deps:
	@missing=; why=; \
	for t in $(TOOLS); do command -v $${t%%:*} >/dev/null 2>&1 || missing="$$missing $${t#*:}"; done; \
	[ -z "$$missing" ] || why=" (build tools)"; \
	for d in $(DEPS); do n=$${d%%:*}; r=$${d#*:}; p=$${r%%:*}; w=$$(echo $${r#*:} | tr _ ' '); \
	  pkg-config --exists $$n 2>/dev/null || { missing="$$missing $$p"; why="$$why $$p ($$w)"; }; done; \
	if [ -n "$$missing" ]; then \
	  s=; [ "$$(id -u)" = 0 ] || s=sudo; \
	  echo "keel: installing$$missing with $${s:+$$s }apt-get: needed for$$why"; \
	  $$s env DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null && \
	  $$s env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

keel: $(B)/keel
	@cp -f $< $@.tmp && mv -f $@.tmp $@

$(B)/keel: $(B)/train/main.o $(LIB)
	$(CC) $(OPT) -fopenmp -o $@ $^ $(LDLIBS)
$(LIB): $(OBJ)
	@rm -f $@; ar rcs $@ $^
$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -c -o $@ $<
$(B)/tests/%: $(B)/tests/%.o $(HELPERS) $(LIB)
	$(CC) $(OPT) -fopenmp -o $@ $^ $(LDLIBS) $(TESTLIBS)
.PRECIOUS: $(B)/%.o

# For work in progress: compiles what compiles, archives what is there.
partial:
	-@$(MAKE) -k -s B=$(B) V=$(V) $(OBJ)
	@rm -f $(LIB); ar rcs $(LIB) $$(find $(B)/model $(B)/ckpt $(B)/train $(B)/attrib -name '*.o' ! -name main.o)

tests-built: $(TESTS)
grads-built: $(GRADS)

JOBS := -j$(shell nproc 2>/dev/null || echo 2)
test: deps
	@$(MAKE) -s $(JOBS) keel
	@$(MAKE) -s $(JOBS) V=release tests-built
	@$(MAKE) -s $(JOBS) V=double grads-built
	@tests/run.sh build/release build/double
asan: deps
	@$(MAKE) -s $(JOBS) V=asan build/asan/keel tests-built
	@tests/run.sh build/asan
debug:
	@$(MAKE) -s $(JOBS) V=debug build/debug/keel
quickstart: deps
	@$(MAKE) -s $(JOBS) keel
	@configs/quickstart/run.sh
bench: deps
	@$(MAKE) -s $(JOBS) keel
	@tests/bench/run.sh
fuzz:
	@tests/fuzz/run.sh
loc:
	@for d in model ckpt train attrib tests; do printf '%-8s %6d\n' $$d $$(find $$d -name '*.[ch]' | xargs cat | wc -l); done
clean:
	rm -rf build keel

-include $(shell find build $(B) -name '*.d' 2>/dev/null)
