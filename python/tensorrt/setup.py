"""Adds the .pth file, which setuptools cannot place beside the modules by itself."""

import os
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithPth(build_py):
    _PTH = "tenfold_tensorrt_alias.pth"

    def run(self):
        super().run()
        os.makedirs(self.build_lib, exist_ok=True)
        shutil.copy(self._PTH, os.path.join(self.build_lib, self._PTH))

    def get_outputs(self, include_bytecode=True):
        return [*super().get_outputs(include_bytecode), os.path.join(self.build_lib, self._PTH)]


setup(cmdclass={"build_py": BuildWithPth})
