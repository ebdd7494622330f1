"""Makes the Triton kernels of vLLM importable from its Python files alone, without vLLM's own dependencies: what they import beside Triton and
torch is replaced by as much of it as they use. For peers.py on machines where vLLM is not installed."""
import enum
import logging
import pathlib
import sys
import types

import torch

PACKAGES = ["vllm", "vllm.v1", "vllm.v1.attention", "vllm.v1.attention.ops", "vllm.model_executor", "vllm.model_executor.layers",
            "vllm.model_executor.layers.quantization", "vllm.model_executor.layers.quantization.turboquant", "vllm.model_executor.layers.quantization.utils", "vllm.utils"]


class Platform:
    """vllm.platforms.current_platform, for any NVIDIA GPU."""
    is_cuda = is_cuda_alike = lambda self: True
    is_rocm = is_xpu = is_cpu = lambda self: False
    fp8_dtype = lambda self: torch.float8_e4m3fn

    @staticmethod
    def number():
        major, minor = torch.cuda.get_device_capability()
        return 10 * major + minor

    def has_device_capability(self, wanted, device_id=0):
        return self.number() >= (wanted if isinstance(wanted, int) else 10 * wanted[0] + wanted[1])

    def is_device_capability(self, wanted, device_id=0):
        return self.number() == (wanted if isinstance(wanted, int) else 10 * wanted[0] + wanted[1])

    def is_device_capability_family(self, wanted, device_id=0):
        return self.number() // 10 == wanted // 10


class KVQuantMode(enum.IntEnum):
    NONE = 0
    FP8_PER_TENSOR = 1
    INT8_PER_TOKEN_HEAD = 2
    FP8_PER_TOKEN_HEAD = 3
    INT4_PER_TOKEN_HEAD = 4
    NVFP4 = 5


def init_logger(name):
    logger = logging.getLogger(name)
    for kind in ("debug_once", "info_once", "warning_once"):
        setattr(logger, kind, lambda *args, **kwargs: None)
    return logger


def use(folder):
    """folder: holds vllm/. To be called before anything of vllm is imported."""
    import triton
    import triton.language

    def module(name, path=None, **content):
        made = types.ModuleType(name)
        made.__dict__.update(content)
        if path is not None:
            made.__path__ = [str(path)]
        sys.modules[name] = made
        if "." in name:
            setattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], made)

    for name in PACKAGES:
        module(name, pathlib.Path(folder, *name.split(".")))
    module("vllm.platforms", current_platform=Platform())
    module("vllm.triton_utils", triton=triton, tl=triton.language)
    module("vllm.envs", VLLM_BATCH_INVARIANT=False)
    module("vllm.logger", init_logger=init_logger)
    module("vllm.v1.kv_cache_interface", KVQuantMode=KVQuantMode, is_quantized_kv_cache=lambda name: name.startswith(("fp8", "int", "turboquant")))
    module("vllm.model_executor.layers.quantization.utils.quant_utils", FP8_DTYPE=torch.float8_e4m3fn, get_fp8_min_max=lambda: (-448.0, 448.0))
