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
