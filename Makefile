# The commands of a user. Each sets up what it needs; see tools/setup.sh.
BUILD := build/release
JOBS := $(shell nproc)
PYTHON := .venv/bin/python
CONFIGURE := cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release
# Named as CMake names them, so that ccache finds the objects of the build above.
WHEEL = CC=cc CXX=c++ $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --force-reinstall .
COMPILE = $(CONFIGURE) && cmake --build $(BUILD) --parallel $(JOBS) --target tenfold_program tenfold

.PHONY: build python test demo demo-classify demo-text cubins bench bench-quick clean

build:  ## build/release/bin/tenfold and build/release/lib/libtenfold.so
	./tools/setup.sh --build
	$(COMPILE)

python:  ## the Python package, installed into .venv
	./tools/setup.sh --python
	$(WHEEL)

test:  ## unit tests, then whole models against ONNX Runtime
	./tools/setup.sh --test
	$(CONFIGURE) -DTENFOLD_TESTS=ON -DTENFOLD_BENCH=ON
	cmake --build $(BUILD) --parallel $(JOBS)
	ctest --test-dir $(BUILD) --output-on-failure
	$(WHEEL)
	$(PYTHON) -m pytest -q python/tests test/python
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

CUBINS := $(BUILD)/lib/tenfold_cuda.cubins
CUBIN_MODELS := $(addprefix build/random/,$(addsuffix .onnx,resnet50 mbv2 mbv3 minilm bertbase yolov8n))
cubins:  ## GPU kernels of well-known models compiled ahead of time, for machines without NVRTC; needs no GPU; a quarter of an hour
	./tools/setup.sh --cubins
	$(COMPILE) tenfold_cuda
	nvrtc=$$($(PYTHON) tools/find_nvrtc.py) && for device in h100 a100 l4; do for precision in "--fp16" ""; do \
	  TENFOLD_NVRTC=$$nvrtc $(BUILD)/bin/tenfold cubins $(CUBIN_MODELS) -o $(CUBINS) --device cuda:$$device $$precision || exit 1; \
	done; done

bench:  ## all models beside ONNX Runtime and OpenVINO; takes an hour, can be interrupted; writes bench/results
	./tools/setup.sh --bench
	$(COMPILE)
	$(WHEEL)
	$(PYTHON) bench/compare_runtimes.py build/random/*.onnx build/models/*.onnx

QUICK := build/random/resnet50.onnx build/random/mbv2.onnx build/random/minilm.onnx build/random/yolov8n.onnx \
  build/models/pp_ocrv4_rec.onnx build/models/doc_orientation_pplcnet.onnx build/models/magika.onnx build/models/silero_vad_op18.onnx
bench-quick:  ## a few models in under three minutes; fails if one has become slower
	./tools/setup.sh --bench
	$(COMPILE)
	$(WHEEL)
	$(PYTHON) bench/quick.py $(QUICK)

clean:
	rm -rf build
