# What there is to do. `make` alone lists it.
#
# FERULA_PEERS   folder of reference servers (prometheus, promtool, alertmanager, node_exporter); tests that need them
#                say so by name where they are missing. Where ../shared/bin/peers exists it brings them.
# FERULA_UPSTREAM  test data of the reference projects, ../shared/upstream by default.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run build ui check test test-ui mails peers smtp dns kubectl clients clients-installed compat differential mutated-configs storm exposition otlp remote-write faults fuzz generated bench compare numbers clean

ROOT := $(CURDIR)
TARGET := $(or $(CARGO_TARGET_DIR),$(ROOT)/target)
PEERS_SCRIPT := $(wildcard ../shared/bin/peers)
export FERULA_PEERS ?= $(TARGET)/peers
export FERULA_UPSTREAM ?= $(abspath ../shared/upstream)
export FERULA_VENV ?= $(TARGET)/venv
export FERULA_CLIENTS ?= $(TARGET)/clients
UI := web/ui
UI_BUILT := $(UI)/dist/index.html
UI_SOURCES := $(shell find $(UI) -path '*/node_modules' -prune -o -path '*/dist' -prune -o -type f -print 2>/dev/null)
T ?=
B ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## build and start the server with the example configuration on http://localhost:9090
	@mkdir -p $(TARGET)/example-data
	$(TARGET)/release/ferula --config.file=config/examples/prometheus.yml \
	  --alertmanager.config-file=config/examples/alertmanager.yml \
	  --storage.tsdb.path=$(TARGET)/example-data --web.enable-lifecycle $(ARGS)

build: ui ## build the server with its page
	cargo build --release --locked

ui: $(UI_BUILT) ## build the page

$(UI_BUILT): $(UI_SOURCES)
	@if command -v npm >/dev/null; then cd $(UI) && npm ci --no-audit --no-fund && npm run build; \
	else echo "ui: npm is not installed; the binary gets a small page instead (install Node 20 or newer for the full one)"; fi

check: ## formatting and lints, warnings as errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

test: ui test-ui check peers smtp dns kubectl clients-installed ## everything that CI runs; T=name for the Rust tests with that name alone
	cargo test --workspace --locked $(T)

test-ui: ui
	@if command -v npm >/dev/null; then cd $(UI) && npm run check && npm test; else echo "test-ui: SKIPPED, npm is not installed"; fi

mails: ## render mails of all situations as HTML, text and screenshots into target/mails
	FERULA_MAILS=$(TARGET)/mails cargo test -p ferula --lib --locked layout::tests::mails_are_written
	@for html in $(TARGET)/mails/*.html; do for width in 640 360; do for scheme in light dark; do \
	  if [ $$scheme = dark ]; then preferred=0; else preferred=1; fi; \
	  chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --blink-settings=preferredColorScheme=$$preferred \
	    --window-size=$$width,1900 --screenshot=$${html%.html}-$$width-$$scheme.shot.png file://$$html >/dev/null 2>&1 \
	    || { echo "mails: no screenshots without chromium"; exit 0; }; done; done; done; echo "mails: look at $(TARGET)/mails"

peers: ## bring the reference servers that tests compare with
	@if [ -n "$(PEERS_SCRIPT)" ]; then $(PEERS_SCRIPT) $(FERULA_PEERS) || echo "peers: could not be had, the tests that need them will say so"; \
	elif [ -x $(FERULA_PEERS)/bin/node_exporter ]; then true; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "peers: no script at ../shared/bin/peers; taking node_exporter alone, from Debian"; \
	  mkdir -p $(FERULA_PEERS)/bin && cd $(FERULA_PEERS) && apt-get -qq update && apt-get -qq download prometheus-node-exporter \
	  && dpkg -x prometheus-node-exporter_*.deb x && ln -sf ../x/usr/bin/prometheus-node-exporter bin/node_exporter \
	  || echo "peers: node_exporter could not be had, the tests that need it will say so"; \
	else echo "peers: set FERULA_PEERS to a folder with bin/node_exporter, bin/prometheus and so on to run the tests that need them"; fi

smtp: ## install the SMTP server that the mail tests deliver to
	@if [ -x $(FERULA_VENV)/bin/aiosmtpd ]; then exit 0; fi; \
	if ! python3 -c 'import ensurepip' 2>/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get -qq update && apt-get -qq install -y python3-venv; fi; \
	python3 -m venv $(FERULA_VENV) && $(FERULA_VENV)/bin/pip -q install aiosmtpd==1.4.6 \
	|| echo "smtp: aiosmtpd could not be installed, the tests that need it will say so"

kubectl: ## install the client of Kubernetes that lists from the API server of the tests (8 MB)
	@if [ -x $(FERULA_PEERS)/bin/kubectl ] || command -v kubectl >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get -qq update && apt-get -qq install -y --no-install-recommends kubernetes-client \
	  || echo "kubectl: could not be installed, the tests that need it will say so"; \
	else echo "kubectl: not here and not root, the tests that need it will say so"; fi

dns: ## install the name server that the tests of DNS discovery ask
	@if [ -x /usr/sbin/dnsmasq ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get -qq update && apt-get -qq install -y dnsmasq-base; fi; \
	[ -x /usr/sbin/dnsmasq ] || echo "dns: dnsmasq could not be installed, the tests that need it will say so"

# What is there already and was installed from the same list stays. What could not be had is named by the test.
clients-installed: ## install other people's clients for the tests with them (200 MB): Grafana's data source and others
	@for name in grafana js; do from=$(ROOT)/tests/clients/$$name; to=$(FERULA_CLIENTS)/$$name; \
	  if cmp -s $$from/package-lock.json $$to/installed; then continue; fi; \
	  if ! command -v npm >/dev/null; then echo "clients: npm is not installed, the tests with $$name will say so"; continue; fi; \
	  rm -rf $$to && mkdir -p $$to && cp -R $$from/package.json $$from/package-lock.json $$from/.npmrc $$to && \
	  { [ ! -d $$from/stub ] || cp -R $$from/stub $$to; } && (cd $$to && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) \
	  && cp $$to/package-lock.json $$to/installed \
	  || { rm -rf $$to; echo "clients: $$name could not be installed, the tests with it will say so"; }; done
	@from=$(ROOT)/tests/clients/python/requirements.txt; to=$(FERULA_CLIENTS)/venv; \
	if cmp -s $$from $$to/installed; then exit 0; fi; \
	if ! python3 -c 'import ensurepip' 2>/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get -qq update && apt-get -qq install -y python3-venv; fi; \
	rm -rf $$to && python3 -m venv $$to && $$to/bin/pip -q --disable-pip-version-check install --no-deps -r $$from && cp $$from $$to/installed \
	|| { rm -rf $$to; echo "clients: the Python clients could not be installed, the tests with them will say so"; }

clients: peers clients-installed ## other people's clients against Ferula and Prometheus; RECORD=1 writes docs/grafana-save-and-test.txt
	$(if $(RECORD),FERULA_CLIENTS_RECORD=1) cargo test --locked --test it -- clients:: --nocapture

compat: peers ## compare with Prometheus, 3.14 if the peers have it: every endpoint, and 1,500 queries at random
	cargo test --locked --test it -- compat:: differential:: --nocapture

differential: peers ## queries at random, beside 3.14 if the peers have it; QUERIES=20000 SEED=1 REPORT=file
	FERULA_DIFFERENTIAL_QUERIES=$(or $(QUERIES),20000) FERULA_DIFFERENTIAL_SEED=$(or $(SEED),1) \
	  FERULA_DIFFERENTIAL_PEER=$(notdir $(firstword $(wildcard $(FERULA_PEERS)/bin/prometheus-next) prometheus)) \
	  $(if $(REPORT),FERULA_DIFFERENTIAL_REPORT=$(abspath $(REPORT))) \
	  cargo test --locked --release --test it -- differential::queries --nocapture

mutated-configs: peers ## changed configurations, refused or taken as promtool does; N=3000 SEED=1
	MUTATED_CONFIGS=$(or $(N),3000) MUTATED_SEED=$(or $(SEED),1) MUTATED_SHOW=1 \
	  cargo test -p config --locked --test reference mutated -- --nocapture

storm: smtp ## 20,000 alerts at once to a mail server in a bad mood, with a kill -9 in the middle; N=20000
	FERULA_STORM_ALERTS=$(or $(N),20000) cargo test --locked --test it storm -- --nocapture

exposition: peers ## bodies at random, right and spoilt, scraped beside Prometheus 3.14; N=2000 SEED=1 REPORT=file
	FERULA_EXPOSITION_BODIES=$(or $(N),2000) FERULA_EXPOSITION_SEED=$(or $(SEED),1) \
	  $(if $(REPORT),FERULA_EXPOSITION_REPORT=$(abspath $(REPORT))) \
	  cargo test --locked --test it -- exposition:: --nocapture

otlp: peers ## OTLP requests at random, posted to Prometheus as well; N=1000 SEED=1
	FERULA_OTLP_REQUESTS=$(or $(N),1000) FERULA_OTLP_SEED=$(or $(SEED),1) \
	  cargo test --locked --test it -- otlp:: --nocapture

remote-write: peers ## a Prometheus sends to two of ours in both versions, one of which is killed meanwhile; SECONDS=60
	FERULA_REMOTE_WRITE_SECONDS=$(or $(SECONDS),60) cargo test --locked --test it -- remote::live --nocapture

faults: ## break the disk under the store at each of its operations, and cut the power after each
	FERULA_FAULTS=all cargo test -p tsdb --locked --lib testing::crash

fuzz: ## damaged bytes for every reader of the store and of expositions; SECONDS=60 SEED=1
	FERULA_FUZZ_SECONDS=$(or $(SECONDS),60) FERULA_FUZZ_SEED=$(or $(SEED),1) \
	  cargo test -p tsdb --locked --release --test fuzz -- --nocapture

generated: ## random expressions on random series against the slow reference, bit for bit; SECONDS=600 SEED=1000
	FERULA_SECONDS=$(or $(SECONDS),600) FERULA_SEED=$(or $(SEED),1000) \
	  cargo test -p promql --locked --release --lib generated_expressions -- --nocapture

bench: ## measure the stages of the data path; B=name for one
	cargo bench --workspace --locked $(if $(B),--bench $(B))

compare: build peers ## scrape 100 targets x 1,000 series at 1 s for a minute beside Prometheus; ARGS for other loads
	cargo run --release --locked --example compare -- --ferula $(TARGET)/release/ferula --peers $(FERULA_PEERS) $(ARGS)

# Each figure by a command of its own: `make numbers-churn`. ARGS come last and win: `make numbers-churn ARGS="--targets 10"`.
# SERVERS says who is measured. BENCHMARKS.md says what each one is about.
# UPSTREAM_BENCH names files that `go test -bench . -benchmem` wrote in Prometheus' promql folder: then there are ratios.
SERVERS ?= prometheus,victoria-metrics,ferula
COMPARE = cargo run --release --locked --example compare -- --ferula $(TARGET)/release/ferula --peers $(FERULA_PEERS) --servers $(SERVERS)
COMPARED := cpu cpu-gzip memory-100k memory-1m churn replace restart-400k restart-1m targets
# Beside 3.14 if the peers have it.
NEXT = --servers prometheus,ferula --prometheus $(notdir $(firstword $(wildcard $(FERULA_PEERS)/bin/prometheus-next) prometheus))
NUMBERS := $(addprefix numbers-,$(COMPARED) replay-400k replay-1m compaction-100k compaction-1m head-memory queries stream dashboards engine micro)
.PHONY: $(NUMBERS)

numbers: $(NUMBERS) ## every figure of BENCHMARKS.md, one after the other; numbers-NAME for one

$(addprefix numbers-,$(COMPARED)): build peers
numbers-cpu:
	$(COMPARE) --targets 100 --interval 1 --warmup 60 --seconds 120 $(ARGS)
numbers-cpu-gzip:
	$(COMPARE) --targets 100 --interval 1 --warmup 60 --seconds 120 --gzip $(ARGS)
numbers-memory-100k:
	$(COMPARE) --targets 100 --interval 5 --warmup 120 --seconds 120 $(ARGS)
numbers-memory-1m:
	$(COMPARE) --targets 1000 --interval 15 --warmup 120 --seconds 180 $(ARGS)
numbers-churn:
	$(COMPARE) --targets 100 --interval 5 --warmup 60 --seconds 600 --churn 10 $(ARGS)
numbers-replace:
	$(COMPARE) --targets 100 --interval 5 --warmup 120 --seconds 120 --replace $(ARGS)
numbers-restart-400k:
	$(COMPARE) --targets 400 --interval 15 --warmup 60 --seconds 180 --restart $(ARGS)
numbers-restart-1m:
	$(COMPARE) --targets 1000 --interval 15 --warmup 60 --seconds 180 --restart $(ARGS)
numbers-targets:
	$(COMPARE) --targets 10000 --series 10 --interval 15 --listed --warmup 120 --seconds 180 $(ARGS)
numbers-replay-400k:
	FERULA_BENCH_TARGETS=$(or $(TARGETS),400) cargo bench -p tsdb --locked --bench replay
numbers-replay-1m:
	FERULA_BENCH_TARGETS=$(or $(TARGETS),1000) cargo bench -p tsdb --locked --bench replay
numbers-compaction-100k:
	SERIES=$(or $(SERIES),100_000) cargo bench -p tsdb --locked --bench compaction
numbers-compaction-1m:
	SERIES=$(or $(SERIES),1_000_000) cargo bench -p tsdb --locked --bench compaction
numbers-head-memory:
	SERIES=$(or $(SERIES),400_000) cargo bench -p tsdb --locked --bench head_memory
numbers-queries: build peers
	$(COMPARE) $(ARGS) queries $(QUERIES)
numbers-stream: build peers
	$(COMPARE) $(NEXT) $(ARGS) stream $(STREAM)
numbers-dashboards: build peers
	$(COMPARE) $(NEXT) $(ARGS) dashboards $(DASHBOARDS)
numbers-engine:
	cargo bench -p ferula --locked --bench queries -- $(addprefix --upstream ,$(UPSTREAM_BENCH)) $(ARGS)
numbers-micro:
	cargo bench -p model --locked --bench parse_text --bench parse_protobuf
	cargo bench -p ferula --locked --bench scrape_warm
	cargo bench -p tsdb --locked --bench append_commit --bench wal_encode --bench chunk_decode

clean:
	cargo clean
	rm -rf $(UI)/dist $(UI)/node_modules
