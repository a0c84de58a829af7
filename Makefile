# Thin: every target is one of the scripts in tools/ or meson. `make help` lists them.
#
#   BUILD=dir      another build folder        ARGS='...'   passed on to `sluice serve`, the benchmark or the linter
#   CI=true        warnings are errors
BUILD ?= build
PREFIX ?= /usr/local
ARGS ?=
PORT ?= 8000
MESON_FLAGS := -Dprefix=$(abspath $(PREFIX)) $(if $(CI),-Dwerror=true)
NINJA := ninja -C $(BUILD) -j2

.PHONY: help run build test test-s3 bench lint fuzz sim soak fmt install clean setup
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what the build needs (Debian 12)
	@tools/setup

# A room that is new since the last configuration is no news to ninja: meson looks again.
ROOMS := $(wildcard src/*/meson.build sim/meson.build bench/meson.build src/main.c)
$(BUILD)/build.ninja: $(ROOMS)
	@meson setup $(if $(wildcard $(BUILD)/build.ninja),--reconfigure) $(MESON_FLAGS) $(BUILD) >$(BUILD).setup.log 2>&1 || \
		{ cat $(BUILD).setup.log; rm -f $(BUILD).setup.log; exit 1; }
	@rm -f $(BUILD).setup.log
	@touch $@

build: setup ## build build/sluice
	@$(MAKE) -s $(BUILD)/build.ninja
	@$(NINJA) --quiet

run: build ## build, then serve ./data on port 8000
	@echo "Sluice: http://localhost:$(PORT)  user admin, password admin unless SLUICE_USERNAME and SLUICE_PASSWORD say otherwise; data in ./data"
	@exec $(BUILD)/sluice serve --data ./data --addr 127.0.0.1:$(PORT) $(ARGS)

test: ## unit, simulator and black-box tests
	@tools/setup --tests
	@$(MAKE) -s build
	@tools/test $(BUILD)

bench: ## the benchmark table (several minutes; ARGS=--quick for a smoke)
	@tools/setup --tests
	@$(MAKE) -s build
	@"$$(tools/setup --venv)/bin/python" bench/run.py $(ARGS)

lint: ## what no compiler says: layout rules, format, cppcheck, clang-tidy
	@$(MAKE) -s build
	@tools/lint $(ARGS)

fuzz: setup ## every fuzz target for a while (FUZZ_SECONDS=60)
	@tools/fuzz $${FUZZ_SECONDS:-60}

sim: build ## the simulator, its mutants, and the models of the catalog protocol (SIM_SECONDS=300)
	@$(BUILD)/sim/sluice-sim --seeds 1..1000000 --seconds $${SIM_SECONDS:-300}
	@$(BUILD)/sim/sluice-sim --mutants --seeds 1..5000
	@tools/models

test-s3: ## the black-box tests with the files of all servers in MinIO (FAULTS=1: behind a proxy that breaks requests)
	@tools/setup --minio
	@$(MAKE) -s build
	@SLUICE_TEST_S3=minio SLUICE_TEST_S3_FAULTS=$(FAULTS) tools/test --black-box $(BUILD)

soak: ## the black-box tests, long form: SLUICE_SOAK=1 (hours)
	@tools/setup --tests
	@$(MAKE) -s build
	@SLUICE_SOAK=1 tools/test --black-box $(BUILD)

fmt: ## format the C sources in place
	@git ls-files '*.c' '*.h' | xargs clang-format -i

install: build ## install under PREFIX (/usr/local)
	@meson configure $(BUILD) -Dprefix=$(abspath $(PREFIX)) && $(NINJA) --quiet >/dev/null && meson install -C $(BUILD) --no-rebuild --quiet
	@echo "installed $(abspath $(PREFIX))/bin/sluice"

clean: ## remove what was built (not the data)
	@rm -rf build build-*
