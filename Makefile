# Everything a person does here; `make` alone prints the commands and their options. What each takes
# stands in ops/options.py, and what is given for it is handed over by ops/make.py.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
VENV := .venv
# Never bin/pip and the like: the first line of a script cannot name every folder (one with $ or ').
PIP := $(VENV)/bin/python -m pip
RUN := $(VENV)/bin/python -m ops.make

# A value reaches the command as it was typed: no part of it is expanded by make or read by a shell.
GIVEN_OPTIONS := $(strip $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name))))
GIVEN_GOALS := $(MAKECMDGOALS)
$(foreach name,$(GIVEN_OPTIONS),$(eval override $(name) := $$(value $(name))))
IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c '$(IS_NEW_ENOUGH)' 2>/dev/null && echo $$python && break; done)
export GIVEN_OPTIONS GIVEN_GOALS $(GIVEN_OPTIONS)
# Names and sentences may hold any character, whatever the locale; and no module but those that were
# installed here takes the place of one of Python's or ours.
export PYTHONUTF8 := 1
unexport PYTHONPATH PYTHONHOME PYTHONOPTIMIZE PYTHONINSPECT PYTHONWARNINGS PYTHONIOENCODING PYTHONPLATLIBDIR
quoted = '$(subst ','\'',$1)'

.NOTPARALLEL:
USES := smoke full refresh plan status logs sync verify restore prune luigid ui setup teardown
TOOLS := bench fuzz kernel test soak lint audit demo-ec2
.PHONY: help report $(USES) $(TOOLS)

$(USES): $(VENV)/.installed
report: $(VENV)/.report-installed
demo-ec2: $(VENV)/.local-aws-installed
kernel fuzz: $(VENV)/.compiler-installed
audit: $(VENV)/audit/.installed
bench test soak lint: $(VENV)/.tests-installed
report $(USES) $(TOOLS):
	@$(RUN) $@

# What is asked before anything is installed is asked of whatever Python there is.
HAS_PYTHON = $(call quoted,$(PYTHON)) -c $(call quoted,$(IS_NEW_ENOUGH)) 2>/dev/null || \
	{ echo 'Python 3.11 or later is needed: install it, or name it with PYTHON=…' >&2; exit 2; }

help:
	@$(HAS_PYTHON)
	@$(call quoted,$(PYTHON)) -m ops.make help

.DEFAULT:
	@$(HAS_PYTHON)
	@$(call quoted,$(PYTHON)) -m ops.make $(call quoted,$@)

IS_TYPED_RIGHT = $(HAS_PYTHON); $(call quoted,$(PYTHON)) -m ops.make

$(VENV)/.installed: requirements.lock
	@$(IS_TYPED_RIGHT)
	@echo 'Installing into $(VENV) (once) …'
	@$(call quoted,$(PYTHON)) -m venv $(VENV) || { echo 'Debian and Ubuntu need the package python3-venv for this.' >&2; exit 2; }
	@$(PIP) install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(VENV)/bin/python -c 'import os, sysconfig; site = sysconfig.get_path("purelib"); open(os.path.join(site, "project.pth"), "w").write(os.path.relpath(os.getcwd(), site))'
	@touch $@

$(VENV)/.local-aws-installed: ops/local_aws/requirements.lock $(VENV)/.installed
	@$(IS_TYPED_RIGHT)
	@echo 'Installing an AWS for this machine (once) …'
	@$(PIP) install --quiet --disable-pip-version-check --require-hashes -r ops/local_aws/requirements.lock
	@touch $@

$(VENV)/.report-installed: ops/report/requirements.lock $(VENV)/.installed
	@$(IS_TYPED_RIGHT)
	@echo 'Installing what draws the report (once) …'
	@$(PIP) install --quiet --disable-pip-version-check --require-hashes -r ops/report/requirements.lock
	@touch $@

$(VENV)/.compiler-installed: tasks/bustimes/kernel/compiler.lock $(VENV)/.installed
	@$(IS_TYPED_RIGHT)
	@echo 'Installing the compiler of the kernel (once) …'
	@$(PIP) install --quiet --disable-pip-version-check --require-hashes -r tasks/bustimes/kernel/compiler.lock
	@touch $@

$(VENV)/audit/.installed: ops/audit.lock $(VENV)/.installed
	@$(IS_TYPED_RIGHT)
	@echo 'Installing pip-audit, apart from all else (once) …'
	@$(VENV)/bin/python -m venv --clear $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r ops/audit.lock
	@touch $@

$(VENV)/.tests-installed: tests/requirements.lock $(VENV)/.installed
	@$(IS_TYPED_RIGHT)
	@echo 'Installing what the tests need (once) …'
	@$(PIP) install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.lock
	@touch $@
