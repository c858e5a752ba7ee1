"""Makes `import tensorrt` find tenfold.tensorrt, as the last resort.

The finder stands at the end of sys.meta_path: a package `tensorrt` that is installed, NVIDIA's above all, is found before
it and is never shadowed, and no file of it is touched. A .pth file installs the finder when Python starts; that costs
the import of this file, which imports nothing heavy.
"""

import importlib.util
import sys


class _Loader:
    def create_module(self, spec):
        return None

    def exec_module(self, module):
        # The import system takes from sys.modules what it finds there after this.
        name = module.__name__
        sys.modules[name] = importlib.import_module("tenfold." + name)


class _Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "tensorrt":
            return None
        return importlib.util.spec_from_loader(name, _Loader(), origin="tenfold.tensorrt")


def install():
    if not any(finder is _Finder for finder in sys.meta_path):
        sys.meta_path.append(_Finder)
