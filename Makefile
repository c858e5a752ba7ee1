# The commands of a user. Each sets up what it needs; see tools/setup.sh.
BUILD := build/release
JOBS := $(shell nproc)
PYTHON := .venv/bin/python
CONFIGURE := cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release
COMPILE = $(CONFIGURE) && cmake --build $(BUILD) --parallel $(JOBS) --target tenfold_program tenfold

.PHONY: build test demo demo-classify demo-text bench clean

build:  ## build/release/bin/tenfold and build/release/lib/libtenfold.so
	./tools/setup.sh --build
	$(COMPILE)

test:  ## unit tests, then whole models against ONNX Runtime
	./tools/setup.sh --test
	$(CONFIGURE) -DTENFOLD_TESTS=ON
	cmake --build $(BUILD) --parallel $(JOBS)
	ctest --test-dir $(BUILD) --output-on-failure
	TENFOLD=$(BUILD)/bin/tenfold $(PYTHON) -m pytest -q test/models

demo:  ## read text from pictures
	./tools/setup.sh --demo
	$(COMPILE)
	$(PYTHON) demo/ocr.py

demo-classify:  ## name what is in photographs
	./tools/setup.sh --demo
	$(COMPILE)
	$(PYTHON) demo/classify.py

demo-text:  ## compare sentences by meaning
	./tools/setup.sh --demo
	$(COMPILE)
	$(PYTHON) demo/sentences.py

bench:  ## beside ONNX Runtime and OpenVINO; writes bench/results
	./tools/setup.sh --bench
	$(COMPILE)
	$(PYTHON) bench/compare_runtimes.py build/models/*.onnx

clean:
	rm -rf build
