# Everything is built below build/ and .venv/; each step leaves a stamp, so that repeating is quick.
#
#   make demo      the demonstration on real data
#   make test      every test (C, examples, Python, differential, conformance)
#   make check     the quick part of it, under two minutes
#   make soak      the long tests; writes docs/soak.md
#   make bench     the measurements; writes docs/bench.md
#   make bench-kernels    native estimators against the originals; writes docs/bench-kernels.md
#   make asan tsan valgrind    the C tests under a checker
#   make dev       the extension beside the sources: PYTHONPATH=python .venv/bin/python
#   make format lint clean

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
MESON := $(BIN)/meson
# meson-python looks for meson and ninja on the path
export PATH := $(CURDIR)/$(BIN):$(PATH)

# What the result of a build depends on.
C_SOURCES := $(shell find src include tests/c examples fuzz -name '*.[ch]' 2>/dev/null)
BUILD_FILES := meson.build meson.options $(shell find src include tests/c examples fuzz python \
	-name meson.build 2>/dev/null)
PACKAGE_SOURCES := $(shell find python src include \( -name '*.[ch]' -o -name '*.py' \
	-o -name '*.pyi' -o -name py.typed \) 2>/dev/null)
PYTEST := $(PY) -m pytest

.PHONY: all build build-faults dev test test-c test-install test-python check soak bench bench-kernels asan tsan valgrind format lint \
	demo clean
.DELETE_ON_ERROR:

all: build

# -- Environment ------------------------------------------------------------------------------

$(VENV)/.deps: pyproject.toml tools/constraints.txt tools/bootstrap.sh tools/requirements.py
	tools/bootstrap.sh $(VENV)
	touch $@

# -- Package ----------------------------------------------------------------------------------

# Not editable: the tests see what a user would have installed. The build directory stays, so that
# only changed C files are compiled again.
$(VENV)/.package: $(VENV)/.deps $(PACKAGE_SOURCES) $(BUILD_FILES)
	$(PY) tools/check_tree.py --no-format
	$(PY) -m pip install -q --no-build-isolation --no-deps --force-reinstall \
		--config-settings=build-dir=build/package .
	touch $@

build: $(VENV)/.package

# A second copy of the package with the planted faults compiled in, which the differential tests must
# find: PYTHONPATH=build/faults and ST_PLANT=number.
build/faults/.done: $(VENV)/.deps $(PACKAGE_SOURCES) $(BUILD_FILES)
	$(PY) tools/check_tree.py --no-format
	$(PY) -m pip install -q --no-build-isolation --no-deps --upgrade --target build/faults \
		--config-settings=build-dir=build/package-faults \
		--config-settings=setup-args=-Dfaults=true .
	touch $@

build-faults: build/faults/.done

# The extension copied beside its sources, for work on the Python files without installing.
dev: build
	for f in build/package/python/stratum/_core.*.so; do cp "$$f" python/stratum/.new.so && mv -f python/stratum/.new.so "python/stratum/$${f##*/}"; done

# -- Tests ------------------------------------------------------------------------------------

build/c/build.ninja: $(VENV)/.deps
	$(MESON) setup build/c --werror -Dpython=false

test-c: build/c/build.ninja
	$(MESON) compile -C build/c
	$(MESON) test -C build/c --no-rebuild --print-errorlogs

# The library as its users have it: installed, found by pkg-config, linked shared and static.
test-install: test-c
	rm -rf build/prefix
	$(MESON) install -C build/c --no-rebuild --quiet --destdir $(CURDIR)/build/prefix
	tools/check_install.sh build/prefix examples


# In two halves, side by side: most tests wait for one core. What the second half says comes after the first's.
# (Not the other way round: what a shell starts in the background takes no Ctrl-C, which tests/python sends.)
# The differential harness must also find the faults that the second copy has.
test-python: build build-faults
	@mkdir -p build
	STRATUM_FAULTS=$(CURDIR)/build/faults $(PYTEST) tests/differential tests/conformance tests/python/test_demo.py \
		>build/test-against-originals.log 2>&1 & second=$$!; \
		$(PYTEST) tests/python --ignore=tests/python/test_demo.py; first=$$?; \
		wait $$second; second=$$?; \
		cat build/test-against-originals.log; \
		test $$first = 0 && exit $$second

test: test-c test-install test-python

# In four parts at the same time: two of them take two minutes and use one core, as much of it is waiting (for
# signals, for programs that are started). The large files come first, so that none of them has the end alone.
QUICK_PARTS := 1 2 3 4
QUICK_FILES = $(shell ls -S tests/python/test_*.py | awk 'NR % $(words $(QUICK_PARTS)) + 1 == $(1)')

check: lint test-c build
	@$(MAKE) --no-print-directory --output-sync=target --keep-going -j$(words $(QUICK_PARTS)) $(QUICK_PARTS:%=check-part-%)

check-part-%:
	$(PYTEST) -q -m "not slow" $(call QUICK_FILES,$*)

# -- Checkers ---------------------------------------------------------------------------------

# A debug build: -O1 keeps lines and frames readable. Leaks count.
build/asan/build.ninja: $(VENV)/.deps
	$(MESON) setup build/asan -Dpython=false --buildtype=debug -Doptimization=1 \
		-Db_sanitize=address,undefined -Db_lundef=false

build/tsan/build.ninja: $(VENV)/.deps
	$(MESON) setup build/tsan -Dpython=false --buildtype=debug -Doptimization=1 \
		-Db_sanitize=thread -Db_lundef=false

build/valgrind/build.ninja: $(VENV)/.deps
	$(MESON) setup build/valgrind -Dpython=false --buildtype=debug -Doptimization=1

asan: build/asan/build.ninja
	$(MESON) compile -C build/asan
	ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		$(MESON) test -C build/asan --no-rebuild --print-errorlogs --timeout-multiplier 10

tsan: build/tsan/build.ninja
	$(MESON) compile -C build/tsan
	TSAN_OPTIONS=halt_on_error=1 \
		$(MESON) test -C build/tsan --no-rebuild --print-errorlogs --timeout-multiplier 20

valgrind: build/valgrind/build.ninja
	@command -v valgrind >/dev/null || { echo "valgrind is not installed" >&2; exit 1; }
	$(MESON) compile -C build/valgrind
	$(MESON) test -C build/valgrind --no-rebuild --print-errorlogs --timeout-multiplier 50 \
		--wrap "valgrind --error-exitcode=9 --leak-check=full -q"

soak: build
	$(PY) tools/soak.py

# -- The rest ---------------------------------------------------------------------------------

demo: build
	$(PY) -m stratum demo

bench: build
	$(PY) -m bench

bench-kernels: build
	$(PY) -m bench.kernels

format: $(VENV)/.deps
	find include src python/stratum tests/c examples fuzz -name '*.[ch]' -print0 \
		| xargs -0 -r $(BIN)/clang-format -i --style=file

lint: $(VENV)/.deps
	$(PY) tools/check_tree.py

clean:
	rm -rf build dist $(VENV) python/stratum/_core.*.so
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
