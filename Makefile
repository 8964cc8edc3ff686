# All it takes is python3 (3.10 or newer; 3.11 for `make lint`). What is installed goes to .venv.

PYTHON ?= python3
BIN := .venv/bin

# What the demo runs on. A trained model goes here: its path or zoo name (and its label file, if it needs one).
MODEL := demo_out/frozen_inference_graph.pb
LABELS := demo_out/labels.txt
PICTURE := demo_out/picture.png

.PHONY: demo test lint bench clean

demo: .venv/with-demo
	$(BIN)/python -m ssdrt.demo demo_out
	$(BIN)/ssdrt detect person-hand demo_out/astronaut.png
	$(BIN)/ssdrt detect person-hand demo_out/astronaut.png -o demo_out/astronaut_annotated.png
	$(BIN)/ssdrt inspect $(MODEL)
	$(BIN)/ssdrt detect $(MODEL) $(PICTURE) --labels $(LABELS)
	$(BIN)/ssdrt detect $(MODEL) $(PICTURE) --labels $(LABELS) -o demo_out/annotated.png --json demo_out/found.jsonl
	@echo "The annotated pictures are demo_out/astronaut_annotated.png and demo_out/annotated.png, the detections are in demo_out/found.jsonl."

EXTRAS ?= dev
# With EXTRAS=dev,train,cuda,test-trt (6 GB) nothing is skipped for want of a package.
test: .venv/with-$(EXTRAS)
	$(BIN)/python -m pytest

lint: .venv/with-$(EXTRAS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Also measured, if they are given: PHOTOS, a folder of JPEGs, and ANNOTATIONS, COCO's of these photos, with MODEL.
bench: .venv/with-dev
	$(BIN)/python bench/postprocess.py
ifdef PHOTOS
	$(BIN)/python bench/speed.py $(MODEL) $(PHOTOS)
endif
ifdef ANNOTATIONS
	$(BIN)/ssdrt eval $(MODEL) --annotations $(ANNOTATIONS) --images $(PHOTOS)
endif

# NVIDIA's Python modules of other versions, for the test that looks names up in them.
.venv/tensorrt-modules: .venv/with-test-trt
	$(BIN)/python -m pip install --quiet --no-deps --target $@/10.16 tensorrt-cu12-bindings==10.16.1.11
	$(BIN)/python -m pip install --quiet --no-deps --target $@/11.4 tensorrt-cu13-bindings==11.4.0.106

clean:
	rm -rf .venv demo_out dist .pytest_cache .mypy_cache .ruff_cache

# ssdrt itself with one of its extras; done again when pyproject.toml changes.
.venv/with-%: pyproject.toml | .venv/made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@
.venv/made:
	$(PYTHON) -m venv .venv
	touch $@
