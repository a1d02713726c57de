# What people type: each target with what it does is listed by `make help`.

CARGO ?= cargo
CARGO_HOME ?= $(HOME)/.cargo
CARGO_TARGET_DIR ?= target

# For this machine's processor, or for aarch64 on another.
HOST := $(shell uname -m)
ARCH ?= $(HOST)
FOREIGN := $(filter-out $(HOST),$(ARCH))
TRIPLE := $(ARCH)-unknown-linux-gnu
RELEASE := $(CARGO_TARGET_DIR)/$(TRIPLE)/release
RPMS := $(CARGO_TARGET_DIR)/rpm$(FOREIGN:%=-%)

# Release builds run on CentOS 7 to 10 alike, so they bring their own C library: static ones have none of the target's
# to ask for. The target is named, since procedural macros, which are built for the host, can't be static. Paths of the
# machine that builds them don't end in them.
RUSTFLAGS_OF_TRIPLE := CARGO_TARGET_$(shell echo $(TRIPLE) | tr a-z- A-Z_)_RUSTFLAGS
STATIC := env --unset=RUSTFLAGS $(RUSTFLAGS_OF_TRIPLE)="-C target-feature=+crt-static \
	--remap-path-prefix=$(CARGO_HOME)/registry/src= --remap-path-prefix=$(CURDIR)=" $(CARGO)
BUILD := $(STATIC) build --release --locked --target $(TRIPLE)

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: release
release: ## Build the static program for CentOS 7 to 10, and print its size and resident memory
	$(BUILD) --bin fwdguard
	@[ "$(FOREIGN)" ] || packaging/measure.sh $(RELEASE)/fwdguard >&2

.PHONY: install
install: ## Put the release build and its files in place, below DESTDIR
	install -D --strip -m 755 $(RELEASE)/fwdguard $(DESTDIR)/usr/sbin/fwdguard
	install -D -m 644 -t $(DESTDIR)/usr/lib/systemd/system systemd/fwdguard.service
	install -D -m 644 -t $(DESTDIR)/usr/lib/systemd/system/fwdguard.service.d systemd/fwdguard.service.d/10-hardening.conf
	install -D -m 644 -t $(DESTDIR)/usr/lib/systemd/catalog systemd/fwdguard.catalog
	install -D -m 644 -t $(DESTDIR)/usr/lib/fwdguard.d packaging/50-kubernetes.conf
	install -d -m 755 $(DESTDIR)/etc/fwdguard.d $(DESTDIR)/usr/share/fwdguard/proc-sys/net
	install -D -m 644 packaging/fwdguard.sysconfig $(DESTDIR)/etc/sysconfig/fwdguard
	install -D -m 755 packaging/system-sleep.sh $(DESTDIR)/usr/lib/systemd/system-sleep/fwdguard
	install -D -m 644 -t $(DESTDIR)/usr/share/selinux/packages packaging/fwdguard.cil
	install -D -m 755 packaging/resume-vm-default.sh $(DESTDIR)/etc/vmware-tools/scripts/resume-vm-default.d/fwdguard
	install -d -m 755 $(DESTDIR)/usr/share/man/man8 $(DESTDIR)/usr/share/man/man5
	gzip --no-name --best --stdout docs/fwdguard.8 > $(DESTDIR)/usr/share/man/man8/fwdguard.8.gz
	gzip --no-name --best --stdout docs/fwdguard.d.5 > $(DESTDIR)/usr/share/man/man5/fwdguard.d.5.gz
	install -D -m 644 -t $(DESTDIR)/usr/share/doc/fwdguard docs/alerts.yml
	install -D -m 644 packaging/completions/fwdguard.bash $(DESTDIR)/usr/share/bash-completion/completions/fwdguard
	install -D -m 644 -t $(DESTDIR)/usr/share/zsh/site-functions packaging/completions/_fwdguard
	install -D -m 644 -t $(DESTDIR)/usr/share/fish/vendor_completions.d packaging/completions/fwdguard.fish

.PHONY: rpm
rpm: ## Build the RPM and the SRPM of the last commit into target/rpm (ARCH=aarch64 as root, into target/rpm-aarch64)
	@tests/install-programs.sh package $(FOREIGN)
	@rpm/build.sh $(RPMS) $(ARCH)

.PHONY: demo
demo: ## Show what `network stop` does to traffic, without the guard and with it (20 s, touches nothing outside)
	$(BUILD) --bin fwdguard --example traffic
	@FWDGUARD=$(RELEASE)/fwdguard TRAFFIC=$(RELEASE)/examples/traffic demo/demo.sh

# Static, as the package's program is, so that they run on any system.
CROSS := target/cross
TEST_ARM := $(CARGO) fetch --locked --quiet && rpm/cross.sh . env CARGO_TARGET_DIR=$(CROSS) CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static" \
	cargo test --locked --target aarch64-unknown-linux-gnu

# The tests that ask most of the kernel go onto the machine, too: instead of running them, cargo copies their programs.
ON_MACHINE = rm -rf $(CROSS)/programs && mkdir -p $(CROSS)/programs && $(TEST_ARM) \
	--config 'target.aarch64-unknown-linux-gnu.runner = ["cp", "-t", "$(CROSS)/programs"]' \
	$(addprefix --test ,privileges old_kernel writers) && \
	rpm/cross.sh . sh -c 'strip $(CROSS)/programs/* && strip -o $(CROSS)/fwdguard $(CROSS)/aarch64-unknown-linux-gnu/debug/fwdguard' && \
	exec setpriv --pdeathsig TERM tests/system/machine.sh $(CARGO_TARGET_DIR)/system-$(ARCH) $(CROSS)

SUITES ?= bookworm trixie

.PHONY: system-test
system-test: ## Prove the RPM on Debian 12 and 13 with a real systemd, in containers (as root; SUITES=bookworm for one; ARCH=aarch64 on a machine)
	@tests/install-programs.sh system $(FOREIGN)
	@git rev-parse HEAD | cmp --quiet - $(RPMS)/commit || $(MAKE) --no-print-directory rpm
	@$(if $(FOREIGN),$(ON_MACHINE),tests/system/run.sh $(SUITES:%=--suite %)) $(RPMS)/fwdguard-*.$(ARCH).rpm

SCENARIOS ?=

.PHONY: incident
incident: ## Replay the incident on virtual machines that sleep, without the guard and with it (as root; SCENARIOS=sleep for one)
	@tests/install-programs.sh incident
	@git rev-parse HEAD | cmp --quiet - $(RPMS)/commit || $(MAKE) --no-print-directory rpm
	$(BUILD) --example probe --example incident-report
	@exec setpriv --pdeathsig TERM tests/incident/run.sh $(CARGO_TARGET_DIR)/incident $(RPMS)/fwdguard-*.$(ARCH).rpm $(RELEASE) $(SCENARIOS)

.PHONY: selinux-test
selinux-test: ## Prove fwdguard-selinux on a virtual machine with SELinux enforcing, on Debian's policy (as root)
	@tests/install-programs.sh incident
	@git rev-parse HEAD | cmp --quiet - $(RPMS)/commit || $(MAKE) --no-print-directory rpm
	@exec setpriv --pdeathsig TERM tests/selinux/run.sh $(CARGO_TARGET_DIR)/selinux $(RPMS)/fwdguard-*.$(ARCH).rpm $(RPMS)/fwdguard-selinux-*.rpm

BENCH_RUNS ?= 5
BENCH_OPTIONS ?=

.PHONY: bench
bench: HARNESS = $(CARGO_TARGET_DIR)/bench
bench: ## Measure the package's service in containers, side by side with others, into docs/performance.md (as root, 15 minutes)
	@tests/install-programs.sh system
	@git rev-parse HEAD | cmp --quiet - $(RPMS)/commit || $(MAKE) --no-print-directory rpm
	$(STATIC) build --locked --profile harness --target $(TRIPLE) --target-dir $(HARNESS) --example bench
	@sync # what was written goes to the disk before anything is measured
	@exec setpriv --pdeathsig TERM bench/run.sh $(RPMS)/fwdguard-*.$(ARCH).rpm $(HARNESS)/$(TRIPLE)/harness/examples/bench \
		docs/performance.md $(BENCH_RUNS) $(BENCH_OPTIONS)

.PHONY: test
test: test-programs ## Run every test, in namespaces of its own (as root, which also installs missing programs; else what needs no root)
	@umask 022; [ "$$(id -u)" != 0 ] || export FWDGUARD_ALL_TESTS=1; $(CARGO) test --locked

.PHONY: test-arm
test-arm: ## Run the unit tests, and the others that emulation can run, as aarch64 programs (as root)
	@tests/install-programs.sh package aarch64
	@$(TEST_ARM) --lib --test fuzz_corpus

# In namespaces of its own; rootless, in those of a user namespace.
IN_NAMESPACE = $$([ "$$(id -u)" = 0 ] || echo unshare --map-root-user --net --mount)
SEQUENCES ?= 10000
MINUTES ?= 30

.PHONY: model
model: test-programs ## Play random sequences against the model until 10,000 are done, 30 minutes a run (goes on where it ended)
	@mkdir -p $(CARGO_TARGET_DIR)/model
	@env FWDGUARD_SEQUENCES=$(SEQUENCES) FWDGUARD_MODEL_MINUTES=$(MINUTES) FWDGUARD_MODEL_STATE=$(abspath $(CARGO_TARGET_DIR))/model/state \
		$(IN_NAMESPACE) $(CARGO) test --locked --test model -- --nocapture

.PHONY: soak
soak: SECONDS = 1800
soak: test-programs ## Make 100 drifts a second for SECONDS (1800): memory and files flat, none missed, the journal in its limits
	$(BUILD) --bin fwdguard
	@env FWDGUARD_SOAK_SECONDS=$(SECONDS) FWDGUARD_PROGRAM=$(abspath $(RELEASE))/fwdguard \
		$(IN_NAMESPACE) $(CARGO) test --locked --test soak -- --nocapture

RUNS ?= 10000000
SECONDS ?= 240

.PHONY: fuzz
fuzz: ## Fuzz each target until it has had RUNS runs, SECONDS at a time (as root; goes on where it was stopped)
	@fuzz/run.sh $(RUNS) $(SECONDS)

.PHONY: corpus
corpus: ## Make the least inputs that reach what `make fuzz` has found the corpus that `make test` runs
	@fuzz/run.sh keep

.PHONY: deny
deny: ## Check the licences, banned crates and sources of what ends in the program (deny.toml)
	@tests/install-programs.sh deny
	$(CARGO) deny --locked check licenses bans sources

# Programs that the tests drive: ip, nft, iptables, unshare, setpriv, sysctl, a real systemd-sysctl, a real dbus-daemon,
# journalctl, strace, groff.
.PHONY: test-programs
test-programs:
	@tests/install-programs.sh

.PHONY: pages
pages: ## Renew docs/*.md of the man pages
	UPDATE_PAGES=1 $(CARGO) test --locked --test pages man_pages

.PHONY: completions
completions: ## Renew packaging/completions after a change of the command line
	UPDATE_COMPLETIONS=1 $(CARGO) test --locked --lib completions
