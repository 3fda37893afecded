# Two commands: `make demo` runs the main job, `make test` runs the tests. Each sets up .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint clean

demo: .venv/ready
	$(BIN)/alignflow run experiment=avatars_glasses +beside.lookahead.method=lookahead +beside.lookahead.steps=4

test: .venv/ready
	$(BIN)/python -m pytest -m "not slow"

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		(echo "alignflow needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version)"; exit 1)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,ocr,tensorboard,text,molecules]'
	touch $@

clean:
	rm -rf .venv outputs build dist *.egg-info
