# What people type: each target with what it does is listed by `make help`.

CARGO ?= cargo

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: demo
demo: ## Show what `network stop` does to traffic, without the guard and with it (20 s, touches nothing outside)
	$(CARGO) build --release --locked --bin fwdguard --example traffic
	@demo/demo.sh

.PHONY: test
test: test-programs ## Run every test, in namespaces of its own (installs missing test programs when root)
	@if [ "$$(id -u)" = 0 ]; then $(CARGO) test --locked; else unshare --map-root-user --net --mount $(CARGO) test --locked; fi

# Programs that the tests drive: ip, unshare, sysctl, a real systemd-sysctl, a real dbus-daemon.
.PHONY: test-programs
test-programs:
	@tests/install-programs.sh
