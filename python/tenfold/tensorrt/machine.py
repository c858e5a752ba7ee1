"""What Builder and Runtime both say about the machine that they work on. Mixed into API classes."""

import os

from .errors import argument_error, unsupported
from .interfaces import IGpuAllocator, check_interface
from .plugins import get_plugin_registry
from .values import as_int


class Threaded:
    """`max_threads`: of the build and of the runs of engines that come out of it."""

    _max_threads = 0

    @property
    def max_threads(self):
        return self._max_threads or len(os.sched_getaffinity(0))

    @max_threads.setter
    def max_threads(self, count):
        """Of what is built or loaded from now on."""
        count = as_int(count, "max_threads")
        if not 1 <= count <= 256:
            raise argument_error(f"max_threads is between 1 and 256, got {count}")
        self._max_threads = count


class Allocating:
    """`gpu_allocator` and plugins."""

    _allocator = None

    @property
    def gpu_allocator(self):
        return self._allocator

    @gpu_allocator.setter
    def gpu_allocator(self, allocator):
        """Accepted; a CPU engine asks it for nothing."""
        self._allocator = check_interface(allocator, IGpuAllocator, "gpu_allocator")

    def get_plugin_registry(self):
        return get_plugin_registry()


class WithoutDLA:
    """`DLA_core`: there is none."""

    @property
    def DLA_core(self):
        return -1

    @DLA_core.setter
    def DLA_core(self, core):
        if core != -1:
            raise unsupported(f"{type(self).__name__}.DLA_core", "an engine without DLA")
