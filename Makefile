VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.installed

.PHONY: demo test test-fast lint bench figures api paintings clean

# The main job on a real photograph: a stylised picture and a side-by-side sheet in out/.
demo: $(STAMP)
	$(BIN)/python examples/demo.py

# One process of tests per processor.
test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist loadgroup

# Without the slow ones.
test-fast: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist loadgroup -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Speed and quality of the encoders, as ratios; results go to benchmarks/results/.
bench: $(STAMP)
	$(BIN)/python -m benchmarks

# All pictures and tables in docs/. SMALL=1 makes them tiny, in out/small, in a few minutes.
figures: $(STAMP)
	$(BIN)/python examples/sheets.py $(if $(SMALL),--size 96 -o out/small)
	$(BIN)/python examples/feed_forward.py $(if $(SMALL),--size 96 -o out/small/baselines)
	$(BIN)/python examples/metrics_sanity.py \
		$(if $(SMALL),--size 96 --pairs 1 --metrics self_similarity chi_square -o out/small/metrics)
	$(BIN)/python examples/report_003.py $(if $(SMALL),--small -o out/small/report-003)
	$(if $(SMALL),,$(BIN)/python examples/report_003_tables.py)
	$(if $(SMALL),,$(BIN)/python examples/speed_tables.py)
	$(if $(SMALL),,$(BIN)/python examples/report_000.py tables)

# docs/api.md, from the docstrings of the public names.
api: $(STAMP)
	$(BIN)/python examples/api.py

# The style images in examples/styles/.
paintings: $(STAMP)
	$(BIN)/python examples/paint.py -o examples/styles

clean:
	rm -rf $(VENV) out build dist *.egg-info

$(STAMP): setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt -e ".[vgg19,magenta,fast,deep,formats,fonts,experiments,metrics,ray,notebook,test,lint]"
	touch $@
