# Everything a person does here. `make` alone prints the commands.
# Options: SOURCE=… DESTINATION=… (s3://bucket/prefix or a folder), WEEKS=2018-W25,2021-W45 or
# FROM=… TO=…, WORKERS=n, ORDER=…, MAX_ERRORS=n, REFRESH=1, DEEP=1, ON=ec2, PYTHON=python3.12.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help smoke full plan status sync verify luigid setup teardown test lint _environment

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
RUN := $(VENV)/bin/python -m ops

# Any setting of [bustimes] and [local] in luigi.cfg, for one run.
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
export LOCAL_STATE ?= $(STATE)
export LOCAL_S3_PORT ?= $(S3_PORT)
export LOCAL_LUIGID_PORT ?= $(LUIGID_PORT)

CHOICE = $(if $(WEEKS),--weeks '$(WEEKS)') $(if $(FROM),--from '$(FROM)') $(if $(TO),--to '$(TO)')

help: ## this list
	@echo 'A heap of small raw S3 objects becomes a few hundred checked weekly files.'
	@echo
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile | awk -F '\t' '{printf "  make %-9s %s\n", $$1, $$2}'
	@echo
	@sed -n '2,3s/^# //p' Makefile

smoke: _environment ## one week end to end: convert, validate, resume, verify; the figures of a full run
	@$(RUN) smoke $(if $(WEEKS),--weeks '$(WEEKS)')

full: _environment ## every finished week, or the chosen ones; goes on where an earlier run stopped
	@$(RUN) full $(CHOICE) $(if $(WORKERS),--workers '$(WORKERS)') $(if $(filter-out 0,$(REFRESH)),--refresh)

plan: _environment ## dry run: weeks, snapshots, bytes, what is done, time, cost and savings
	@$(RUN) plan $(CHOICE)

status: _environment ## weeks done of all, what runs, disk, memory, last log lines
	@$(RUN) status $(CHOICE)

sync: _environment ## upload what waits in the spool, check it, free the disk
	@$(RUN) sync

verify: _environment ## is the archive complete and correct? DEEP=1 reads every byte
	@$(RUN) verify $(CHOICE) $(if $(filter-out 0,$(DEEP)),--deep)

luigid: _environment ## the scheduler's web page: every week with its progress
	@$(RUN) luigid

setup: _environment ## install what is needed into .venv and start the services of this machine
	@$(RUN) setup

teardown: _environment ## stop the services and remove their files
	@$(RUN) teardown

test: $(VENV)/.tests-installed ## the project's tests
	@$(VENV)/bin/python -m pytest $(PYTEST)

lint: $(VENV)/.tests-installed ## style and types: ruff and mypy
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

_environment: $(VENV)/.installed
ifeq ($(ON),ec2)
	@echo 'ON=ec2 does not exist yet: everything runs on this machine so far. Leave ON away.' >&2; exit 2
else ifneq ($(filter-out local,$(ON)),)
	@echo 'ON=$(ON) is not a place: leave it away for this machine.' >&2; exit 2
endif

$(VENV)/.installed: requirements.lock
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or later is needed: install it, or name it with PYTHON=…' >&2; exit 2; }
	@echo 'Installing into $(VENV) (once) …'
	@$(PYTHON) -m venv $(VENV) || { echo 'Debian and Ubuntu need the package python3-venv for this.' >&2; exit 2; }
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(VENV)/bin/python -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "project.pth").write_text(str(pathlib.Path.cwd()))'
	@touch $@

$(VENV)/.tests-installed: tests/requirements.lock $(VENV)/.installed
	@echo 'Installing what the tests need (once) …'
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.lock
	@touch $@
