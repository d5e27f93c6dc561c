# Everything goes through cargo; `make help` lists what is here.
.DEFAULT_GOAL := help
.PHONY: help setup setup-test run test check fmt bench

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what a build needs (C compiler, cmake); does nothing when it is there
	@scripts/setup.sh

setup-test: ## As setup, and what the tests need besides (PostgreSQL, Redis, openssl, promtool)
	@scripts/setup.sh test

run: setup ## The gateway on port 5050 in front of demo services, with a user per role and curl lines to paste
	cargo run --locked -- demo

test: setup-test ## Every test
	scripts/test.sh

check: setup ## Format, lints, documentation, dependencies: everything but the tests
	scripts/check.sh

fmt: ## Format the code
	cargo fmt --all

bench: setup ## Micro-benchmarks, then CPU time per request against a bare Pingora (a release build: minutes)
	cargo bench --locked --bench micro
	cargo bench --locked --bench e2e
