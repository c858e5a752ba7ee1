"""Plug-ins. The registry exists and is empty: engines hold data and no code, so a plug-in cannot be part of one.

The classes can be named and derived from; registering a creator or loading a library raises.
"""

import numpy as np

from .enums import PluginFieldType
from .errors import unsupported
from .interfaces import IVersionedInterface, Reporter
from .values import Dims

_INSTEAD = "operators of ONNX or layers of the network; Tenfold's own operators cover what the usual plug-ins do"


class PluginField:
    def __init__(self, name="", data=None, type=PluginFieldType.UNKNOWN):
        self.name, self.data, self.type = name, data, type

    @property
    def size(self):
        return 0 if self.data is None else np.size(self.data)


class PluginFieldCollection(list):
    pass


PluginFieldCollection_ = PluginFieldCollection


class PluginTensorDesc:
    def __init__(self):
        self.dims, self.type, self.format, self.scale = Dims(), None, None, 1.0


class DynamicPluginTensorDesc:
    def __init__(self):
        self.desc, self.min, self.opt, self.max = PluginTensorDesc(), Dims(), Dims(), Dims()


class DimsExprs(list):
    pass


class IDimensionExpr:
    pass


class IExprBuilder:
    def __init__(self):
        raise unsupported("IExprBuilder", _INSTEAD)


class _Plugin(IVersionedInterface):
    def __init__(self):
        pass


class IPluginV2(_Plugin):
    pass


class IPluginV2Ext(IPluginV2):
    pass


class IPluginV2DynamicExtBase(IPluginV2Ext):
    pass


class IPluginV2DynamicExt(IPluginV2DynamicExtBase):
    FORMAT_COMBINATION_LIMIT = 100


class IPluginV3(_Plugin):
    pass


class IPluginCapability(_Plugin):
    pass


class IPluginV3OneCore(IPluginCapability):
    pass


class IPluginV3OneBuild(IPluginCapability):
    DEFAULT_FORMAT_COMBINATION_LIMIT = 100


class IPluginV3OneBuildV2(IPluginV3OneBuild):
    pass


class IPluginV3OneRuntime(IPluginCapability):
    pass


class IPluginV3QuickCore(IPluginCapability):
    pass


class IPluginV3QuickBuild(IPluginCapability):
    pass


class IPluginV3QuickAOTBuild(IPluginV3QuickBuild):
    pass


class IPluginV3QuickRuntime(IPluginCapability):
    pass


class IPluginResource(_Plugin):
    pass


class IPluginResourceContext:
    error_recorder = gpu_allocator = None


class IPluginCreatorInterface(_Plugin):
    pass


class IPluginCreator(IPluginCreatorInterface):
    pass


class IPluginCreatorV3One(IPluginCreatorInterface):
    pass


class IPluginCreatorV3Quick(IPluginCreatorInterface):
    pass


class IPluginRegistry(Reporter):
    """Empty. Look-ups say so; additions raise."""

    parent_search_enabled = True

    @property
    def plugin_creator_list(self):
        return []

    all_creators = all_creators_recursive = plugin_creator_list

    def get_plugin_creator(self, type, version, plugin_namespace=""):
        return None

    def get_creator(self, type, version, plugin_namespace=""):
        return None

    def register_creator(self, creator, plugin_namespace=""):
        raise unsupported(f"IPluginRegistry.register_creator of '{getattr(creator, 'name', creator)}'", _INSTEAD)

    def deregister_creator(self, creator):
        return False

    def load_library(self, plugin_path):
        raise unsupported(f"IPluginRegistry.load_library of '{plugin_path}'", _INSTEAD)

    def deregister_library(self, handle):
        raise unsupported("IPluginRegistry.deregister_library", _INSTEAD)

    def acquire_plugin_resource(self, key, resource):
        raise unsupported("IPluginRegistry.acquire_plugin_resource", _INSTEAD)

    def release_plugin_resource(self, key):
        raise unsupported("IPluginRegistry.release_plugin_resource", _INSTEAD)


_registry = IPluginRegistry()


def get_plugin_registry():
    return _registry


def get_builder_plugin_registry(capability=None):
    return _registry


def init_libnvinfer_plugins(logger, namespace=""):
    """True: there is nothing to load."""
    return True


__all__ = [
    name
    for name in list(globals())
    if name[0] == "I" or name.startswith(("Plugin", "Dynamic", "Dims", "get_", "init_"))
    if name not in ("IVersionedInterface", "Dims", "PluginCapabilityType", "PluginFieldType")
]
