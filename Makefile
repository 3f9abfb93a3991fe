# One command each; all work on a fresh clone. Most share the virtual environment .venv.
PYTHON ?= python3
BIN := .venv/bin
NATIVE := setup.py pyproject.toml $(wildcard csrc/*)
C_FLAGS := -std=c11 -O2 -Wall -Wextra -Werror -fsyntax-only
# Tests mostly wait for processes. They share /dev/shm, which may be small: no more than four at once.
SIDE_BY_SIDE := --numprocesses=auto --maxprocesses=4 --dist=worksteal
PROSE := shmbridge csrc docs tests benchmarks examples sprint_entry.py Makefile pyproject.toml $(wildcard *.md)
# The header directories of Python and NumPy.
INCLUDES := import numpy, sysconfig; print('-isystem', sysconfig.get_path('include'), '-isystem', numpy.get_include())

.PHONY: help demo test test-cuda model sanitize test-all check docs bench fuzz soak clean

help:
	@echo "make demo      train a small acoustic model through two Sprint children"
	@echo "make test      run all tests but those that need a large package, such as torch"
	@echo "make test FULL=1                          install these packages (some GB) too, and run all tests"
	@echo "make test ARGS=tests/ring                 run the tests of a folder or file"
	@echo "make test ARGS=tests/test_x.py::test_name run one test; ARGS are pytest's arguments"
	@echo "make check     lint, formatting, types, words, C warnings"
	@echo "make test-cuda run the CUDA tests without a device, on a stand-in for it (needs a torch with CUDA 13)"
	@echo "make model     check rings, doorbells and deaths with spin, in all orders of their steps"
	@echo "make sanitize  run the C part under AddressSanitizer, UBSan and valgrind"
	@echo "make docs      build the documentation site into site/"
	@echo "make test-all  run all tests on every Python that is installed, with its lowest and highest numpy"
	@echo "make bench     measure the exchange"
	@echo "make fuzz      fuzz the code that reads untrusted bytes, for some minutes (ARGS=--seconds=600 for longer)"
	@echo "make soak      a million simulated schedules, then load, kills and forks (ARGS=--seconds=3600 for longer)"
	@echo "make clean     remove everything that was built"

.venv:
	$(PYTHON) -m venv .venv

# The package with the extra %, rebuilt when the C part or the list of packages changes.
.venv/with-%: $(NATIVE) | .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

demo: .venv/with-demo
	$(BIN)/python -m examples.demo $(ARGS)

test: .venv/with-test$(if $(FULL),-full)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

test-cuda: .venv/with-test-full
	$(BIN)/python tests/cuda_standin $(ARGS)

check: .venv/with-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell --dictionary=- --dictionary=tests/docs/words.txt $(PROSE)
	$(BIN)/python tests/docs/prose.py
	$(CC) $(C_FLAGS) $$($(BIN)/python -c "$(INCLUDES)") csrc/*.c

# Needs Python 3.11 or newer. The variable silences an advertisement, not a warning about our pages.
docs: .venv/with-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)
	@echo "open site/index.html, or serve it: $(BIN)/python -m http.server --directory site"

# Needs no environment: Python, a C compiler, and spin (unpacked into .tools on Debian).
model:
	$(PYTHON) tests/model/run.py

test-all:
	$(PYTHON) tests/run_all_pythons.py $(ARGS)

# Its own environment: the peers need an older NumPy than the tests.
.venvs/bench/ready: $(NATIVE)
	$(PYTHON) -m venv .venvs/bench
	.venvs/bench/bin/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

bench: .venvs/bench/ready
	.venvs/bench/bin/python -m benchmarks $(ARGS)

# Its own environment: atheris has wheels for few Pythons.
.venvs/fuzz/ready: $(NATIVE)
	$(PYTHON) -m venv .venvs/fuzz
	.venvs/fuzz/bin/pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	@touch $@

fuzz: .venvs/fuzz/ready
	.venvs/fuzz/bin/python tests/fuzz $(ARGS)

# The C part with AddressSanitizer and UBSan, built from a copy so that the checkout keeps its own build.
SANITIZED := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1
.venvs/asan/ready: $(NATIVE) $(shell find shmbridge -name '*.py')
	rm -rf build/asan
	mkdir -p build/asan
	cp -r csrc shmbridge sprint_entry.py setup.py pyproject.toml README.md build/asan
	rm -f build/asan/shmbridge/_native*.so
	$(PYTHON) -m venv .venvs/asan
	SHMBRIDGE_CFLAGS="$(SANITIZED)" SHMBRIDGE_LDFLAGS="$(SANITIZED)" .venvs/asan/bin/pip install --quiet \
	    --disable-pip-version-check --force-reinstall './build/asan[sanitize]'
	@touch $@

# Python itself is not built with sanitizers: their libraries are preloaded, its own leaks are ignored, and it allocates
# by malloc, so that they see its objects too. Findings go into files: pytest captures standard error, and some children
# are meant to die. If valgrind is installed, it runs the C tests.
FOUND := $(CURDIR)/build/asan/found
SANITIZED_TESTS := tests/ring $(addprefix tests/bridge/test_,zero_copy.py in_place.py restarts.py)
sanitize: .venvs/asan/ready
	if command -v valgrind; then $(MAKE) -C tests/c valgrind; else echo "valgrind is not installed: left out"; fi
	if command -v gcov; then $(MAKE) -C tests/c coverage; else echo "gcov is not installed: left out"; fi
	rm -f $(FOUND).*
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	    ASAN_OPTIONS=detect_leaks=0:log_path=$(FOUND) UBSAN_OPTIONS=print_stacktrace=1:log_path=$(FOUND) \
	    PYTHONMALLOC=malloc .venvs/asan/bin/pytest -p no:cacheprovider $(SIDE_BY_SIDE) $(SANITIZED_TESTS) $(ARGS); \
	    result=$$?; if cat $(FOUND).* 2>/dev/null; then exit 1; else exit $$result; fi

soak: .venv/with-test
	$(BIN)/python -m pytest -m "chance or exhaustive"
	$(BIN)/python tests/simulation
	$(BIN)/python tests/soak $(ARGS)

clean:
	rm -rf .venv .venvs .tools build dist demo-out bench-out site *.egg-info shmbridge/_native*.so shmbridge/_native.c
