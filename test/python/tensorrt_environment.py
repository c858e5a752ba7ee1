"""An environment in which child processes `import tensorrt` and get Tenfold, as with tenfold-tensorrt installed."""

import os
import pathlib

import tenfold

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
_SITE = "import site; site.addsitedir({!r})\n"


def environment(folder, **extra):
    """`folder` gets a sitecustomize.py that reads the distribution's .pth file, as the site-packages folder would be read."""
    (folder / "sitecustomize.py").write_text(_SITE.format(str(REPOSITORY / "python" / "tensorrt")))
    paths = [str(folder), os.path.dirname(os.path.dirname(os.path.abspath(tenfold.__file__)))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore", **extra}
