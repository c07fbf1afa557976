# Every target is one script with a name; there is no logic here. `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help setup build images demo examples up down test test-rust test-python e2e e2e-smoke torture bench bench-quick check deny fix fmt clean

help: ## what there is
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 14

demo: ## start Muster on this machine and run a real job (does all set-up that is missing)
	@scripts/demo.sh

examples: ## run examples/ on the service that `make demo` left running (installs what they import)
	@scripts/examples.sh

down: ## stop what `make demo` started
	@scripts/down.sh

test: ## every test: Rust, Python, end to end in real containers (does all set-up that is missing)
	@scripts/test.sh

up: ## like demo, without the job
	@scripts/demo.sh --no-job

setup: ## install what is missing: packages, Rust, Python environment, Docker engine
	@scripts/setup.sh

build: setup ## gateway, agent and runner, in release
	@scripts/build.sh

images: setup ## the default images muster/python:3.11 and :3.13
	@scripts/images.sh

test-rust: ## the Rust tests alone
	@scripts/test.sh rust

test-python: ## the SDK's own tests alone
	@scripts/test.sh python

e2e: ## the end to end tests alone
	@scripts/test.sh e2e

e2e-smoke: ## the quickest of them that touch every part
	@scripts/test.sh e2e-smoke

torture: ## break hosts, processes and networks at random moments, for about an hour
	@scripts/torture.sh

bench: ## measure Muster beside its peers, write docs/performance.md (long; close other programs first)
	@scripts/bench.sh

bench-quick: ## the same in under three minutes: fewer peers, smaller sizes, one round
	@scripts/bench.sh --quick

check: ## formats, lints, types and all tests: what a change must pass
	@scripts/check.sh

deny: ## what Muster is made of: licences, sources, duplicates, known holes (installs its tools)
	@scripts/deny.sh

fix: ## repair formats and what the linters can repair
	@scripts/check.sh --fix

fmt: ## repair formats alone
	@scripts/fmt.sh

clean: ## remove what was built (images and the Python environment stay)
	@scripts/clean.sh
