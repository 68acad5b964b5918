# Everything a person does here. `make` alone prints the commands.
# Options: SOURCE=… DESTINATION=… (s3://bucket/prefix or a folder), WEEKS=2018-W25,2021-W45 or
# FROM=… TO=…, WORKERS=n, ORDER=…, MAX_ERRORS=n, CURRENT=1, DEEP=1, SHARE=0.01, PYTHON=python3.12.
# To restore: WEEK=…, TO=…, SNAPSHOT=…. To prune: ALLOW_PRUNE=true CONFIRM=bucket.
# On EC2: ON=ec2, with INSTANCES=n, TYPE=c7g.large, KEEP=1, FORCE=1, and DRY_RUN=1 for any command.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help smoke full refresh plan status logs sync verify report restore prune luigid ui setup teardown \
	demo-ec2 kernel bench fuzz audit test lint _environment

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
RUN := $(VENV)/bin/python -m ops

# Any setting of [bustimes] and [local] in luigi.cfg, and some of [ec2], for one run.
export BUSTIMES_SOURCE ?= $(SOURCE)
export BUSTIMES_DESTINATION ?= $(DESTINATION)
export BUSTIMES_SPOOL ?= $(SPOOL)
export BUSTIMES_ORDER ?= $(ORDER)
export BUSTIMES_MAX_ERRORS ?= $(MAX_ERRORS)
export BUSTIMES_COMPRESSION_LEVEL ?= $(COMPRESSION_LEVEL)
export BUSTIMES_MAX_SNAPSHOT_MB ?= $(MAX_SNAPSHOT_MB)
export BUSTIMES_PROCESSES ?= $(PROCESSES)
export BUSTIMES_READS_AT_ONCE ?= $(READS_AT_ONCE)
export BUSTIMES_SPOT_CHECKS ?= $(SPOT_CHECKS)
export BUSTIMES_ALLOW_PRUNE ?= $(ALLOW_PRUNE)
export BUSTIMES_CONNECT_SECONDS ?= $(CONNECT_SECONDS)
export BUSTIMES_STALL_SECONDS ?= $(STALL_SECONDS)
export BUSTIMES_REQUEST_SECONDS ?= $(REQUEST_SECONDS)
export BUSTIMES_RETRY_BUDGET ?= $(RETRY_BUDGET)
export EC2_INSTANCES ?= $(INSTANCES)
export EC2_INSTANCE_TYPES ?= $(TYPE)
export EC2_REGION ?= $(REGION)
export EC2_STACK ?= $(STACK)
export LOCAL_STATE ?= $(STATE)
export LOCAL_S3_PORT ?= $(S3_PORT)
export LOCAL_LUIGID_PORT ?= $(LUIGID_PORT)

ON_EC2 = $(if $(filter-out local,$(ON)),--on '$(ON)') $(if $(filter-out 0,$(DRY_RUN)),--dry-run)
CHOICE = $(if $(WEEKS),--weeks '$(WEEKS)') $(if $(FROM),--from '$(FROM)') $(if $(TO),--to '$(TO)')

help: ## this list
	@echo 'A heap of small raw S3 objects becomes a few hundred checked weekly files.'
	@echo
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1	/p' Makefile | awk -F '\t' '{printf "  make %-9s %s\n", $$1, $$2}'
	@echo
	@sed -n '2,4s/^# //p' Makefile

smoke: _environment ## one week end to end: convert, validate, resume, verify; the figures of a full run
	@$(RUN) smoke $(ON_EC2) $(if $(WEEKS),--weeks '$(WEEKS)')

full: _environment ## every finished week, or the chosen ones; goes on where an earlier run stopped
	@$(RUN) full $(ON_EC2) $(CHOICE) $(if $(WORKERS),--workers '$(WORKERS)') $(if $(filter-out 0,$(REFRESH)),--refresh) $(if $(filter-out 0,$(CURRENT)),--current) $(if $(filter-out 0,$(KEEP)),--keep)

refresh: _environment ## stale and damaged weeks again, and nothing else that is there
	@$(RUN) refresh $(ON_EC2) $(CHOICE) $(if $(WORKERS),--workers '$(WORKERS)') $(if $(filter-out 0,$(CURRENT)),--current) $(if $(filter-out 0,$(KEEP)),--keep)

plan: _environment ## dry run: weeks, snapshots, bytes, what is done, time, cost and savings
	@$(RUN) plan $(ON_EC2) $(CHOICE)

status: _environment ## weeks done of all, what runs, disk, memory, last log lines
	@$(RUN) status $(ON_EC2) $(CHOICE)

logs: _environment ## what the run says; on EC2: of all instances, as it is said
	@$(RUN) logs $(ON_EC2)

sync: _environment ## upload what waits in the spool, check it, free the disk
	@$(RUN) sync $(ON_EC2)

verify: _environment ## is the archive complete and correct? DEEP=1 reads every byte, SHARE=1.0 proves it
	@$(RUN) verify $(ON_EC2) $(CHOICE) $(if $(filter-out 0,$(DEEP)),--deep) $(if $(SHARE),--share '$(SHARE)') $(if $(SEED),--seed '$(SEED)')

restore: _environment ## WEEK=… [SNAPSHOT=…] TO=folder or s3://…: a week back as raw snapshots
	@$(RUN) restore $(ON_EC2) --week '$(WEEK)' --snapshot '$(SNAPSHOT)' --to '$(TO)'

prune: _environment ## delete raw snapshots of proven weeks: says which; CONFIRM=bucket does it
	@$(RUN) prune $(ON_EC2) $(CHOICE) $(if $(CONFIRM),--confirm '$(CONFIRM)')

report: _environment $(VENV)/.report-installed ## what the archive holds, as one HTML page; TO=page.html or s3://…
	@$(RUN) report $(ON_EC2) $(if $(TO),--to '$(TO)')

luigid: _environment ## the scheduler's web page: every week with its progress
	@$(RUN) luigid $(ON_EC2)

ui: _environment ## that page, too; on EC2: forwarded to this machine
	@$(RUN) ui $(ON_EC2)

setup: _environment ## install what is needed and start the services; on EC2: the stack and its fleet
	@$(RUN) setup $(ON_EC2)

teardown: _environment ## stop the services and remove their files; on EC2: all that setup made
	@$(RUN) teardown $(ON_EC2) $(if $(filter-out 0,$(FORCE)),--force)

demo-ec2: $(VENV)/.local-aws-installed ## setup to teardown on EC2, on an AWS that is on this machine
	@$(VENV)/bin/python -m ops.local_aws.demo

kernel: $(VENV)/.compiler-installed ## compile the conversion kernel again, after a change of its C files
	@$(VENV)/bin/python -m ops.kernel

bench: $(VENV)/.tests-installed ## speed, memory and size, against what people would use instead
	@$(VENV)/bin/python -m ops.bench $(BENCH)

fuzz: $(VENV)/.compiler-installed ## search for input that cannot be borne: MINUTES=10
	@$(VENV)/bin/python -m ops.fuzz $(if $(MINUTES),--minutes '$(MINUTES)')

audit: $(VENV)/audit/.installed ## is a weakness known of anything that is installed here? asks osv.dev
	@$(VENV)/bin/python -m ops.audit

test: $(VENV)/.tests-installed ## the project's tests
	@$(VENV)/bin/python -m pytest $(PYTEST)

lint: $(VENV)/.tests-installed ## style and types: ruff and mypy
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

_environment: $(VENV)/.installed
ifneq ($(filter-out local ec2,$(ON)),)
	@echo 'ON=$(ON) is not a place: ON=ec2 is, or leave it away for this machine.' >&2; exit 2
endif

$(VENV)/.installed: requirements.lock
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or later is needed: install it, or name it with PYTHON=…' >&2; exit 2; }
	@echo 'Installing into $(VENV) (once) …'
	@$(PYTHON) -m venv $(VENV) || { echo 'Debian and Ubuntu need the package python3-venv for this.' >&2; exit 2; }
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(VENV)/bin/python -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "project.pth").write_text(str(pathlib.Path.cwd()))'
	@touch $@

$(VENV)/.local-aws-installed: ops/local_aws/requirements.lock $(VENV)/.installed
	@echo 'Installing an AWS for this machine (once) …'
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r ops/local_aws/requirements.lock
	@touch $@

$(VENV)/.report-installed: ops/report/requirements.lock $(VENV)/.installed
	@echo 'Installing what draws the report (once) …'
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r ops/report/requirements.lock
	@touch $@

$(VENV)/.compiler-installed: tasks/bustimes/kernel/compiler.lock $(VENV)/.installed
	@echo 'Installing the compiler of the kernel (once) …'
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r tasks/bustimes/kernel/compiler.lock
	@touch $@

$(VENV)/audit/.installed: ops/audit.lock $(VENV)/.installed
	@echo 'Installing pip-audit, apart from all else (once) …'
	@$(VENV)/bin/python -m venv --clear $(VENV)/audit
	@$(VENV)/audit/bin/pip install --quiet --disable-pip-version-check --require-hashes -r ops/audit.lock
	@touch $@

$(VENV)/.tests-installed: tests/requirements.lock $(VENV)/.installed
	@echo 'Installing what the tests need (once) …'
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.lock
	@touch $@
