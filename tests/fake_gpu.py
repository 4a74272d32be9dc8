"""A GPU without numbers: what a training step does on one, found out on a CPU.

Its tensors are PyTorch's fake ones. They have a shape, a type and the device cuda:0, so that tensors
of two devices or of types that do not fit raise as on a GPU, autocast follows CUDA's lists, and
whatever lets the CPU wait for the GPU is counted. Tensors on the CPU are real ones.
"""

import ctypes
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd.graph import Node
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

OLDEST = (2, 13)
"""The release of PyTorch that this was written for; 2.14 has it, too."""
GPU, CUDA, META = torch.device("cuda:0"), 1, 14
"""The device, and the places of CUDA and of meta tensors in PyTorch's list of kinds of devices."""
CARD = {
    "device_count": 1, "empty_cache": None, "get_device_capability": (9, 0),
    "get_device_name": "NVIDIA H100 80GB HBM3", "is_bf16_supported": True, "manual_seed_all": None,
    "max_memory_allocated": 2**30, "reset_peak_memory_stats": None, "set_device": None,
    "synchronize": None,
}  # fmt: skip
"""What functions of `torch.cuda` return."""
aten = torch.ops.aten
ONE_TYPE = {
    "addmm", "addmv", "addr", "baddbmm", "bmm", "convolution", "dot", "index_add", "index_add_",
    "index_copy", "index_copy_", "index_put", "index_put_", "lerp", "lerp_", "linear",
    "masked_scatter", "mm", "mv", "scatter", "scatter_", "scatter_add", "scatter_add_",
}  # fmt: skip
"""Operations that refuse floating-point tensors of two types, which fake ones let pass."""


NOT_DETERMINISTIC = {
    "_ctc_loss_backward", "adaptive_max_pool2d_backward", "bincount", "cumsum",
    "grid_sampler_2d_backward", "histc", "kthvalue", "median", "nanmedian", "nll_loss2d_forward",
    "put_", "reflection_pad1d_backward", "upsample_bilinear2d_backward",
    "upsample_linear1d_backward",
}  # fmt: skip
"""Of the operations that `torch.use_deterministic_algorithms` refuses, those on sequences."""
WAITING = (aten._local_scalar_dense.default, aten.nonzero.default)
"""Operations whose result is a number, or a shape, that the CPU goes on with."""


class FakeGPU(TorchDispatchMode):
    """Sends what concerns the GPU to fake tensors and all else to the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.waits: Counter[str] = Counter()
        """Operations that end only once the GPU has done all before, with the lines they are in."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.ops.prim.device.default:
            return args[0].device
        if torch.is_inference_mode_enabled():  # nothing has taken the operation apart yet
            with self:
                if (whole := func.decompose(*args, **kwargs)) is not NotImplemented:
                    return whole
        there = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, FakeTensor)]
        goes_to = torch.device(kwargs["device"]).type if kwargs.get("device") else None
        if not there and goes_to != "cuda":
            with _disable_current_modes():
                return func(*args, **kwargs)
        if goes_to == "cuda":
            kwargs["device"] = GPU
        with _disable_current_modes():
            return self._on_the_gpu(func, there, goes_to, args, kwargs)

    def _on_the_gpu(self, func, there: list[FakeTensor], goes_to: str | None, args, kwargs) -> Any:
        tensor, dtype = args[0], kwargs.get("dtype")
        if func is aten._to_copy.default and not there:
            with self.fake:
                return torch.empty(tensor.shape, dtype=dtype or tensor.dtype, device=GPU)
        if func in WAITING or (func is aten._to_copy.default and goes_to == "cpu"):
            self.waits[f"{func} in {_line()}"] += 1
        if func is aten._local_scalar_dense.default:
            return made_up(tensor).item()
        if func is aten._to_copy.default and goes_to == "cpu":
            return made_up(tensor).to(dtype or tensor.dtype)
        if func is aten.nonzero.default:
            with self.fake:
                return torch.empty(tensor.numel() // 2, tensor.dim(), dtype=torch.int64, device=GPU)
        _check(func, tree_leaves((args, kwargs)))
        with self.fake:
            return func(*args, **kwargs)


def made_up(value: Any) -> Any:
    """Return a tensor of numbers in a fake one's place, and all else as it is."""
    if not isinstance(value, FakeTensor):
        return value
    with _disable_current_modes():
        return torch.full(value.shape, 0.5 if value.is_floating_point() else 1, dtype=value.dtype)


def _with_numbers(write: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function that writes tensors write made-up numbers."""
    return lambda value, *rest, **more: write(tree_map(made_up, value), *rest, **more)


def _check(func, leaves: list[Any]) -> None:
    """Refuse what a GPU refuses and fake tensors let pass."""
    name, tensors = func.overloadpacket.__name__, [x for x in leaves if isinstance(x, Tensor)]
    kinds = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    if name in ONE_TYPE and len(kinds) > 1:
        raise RuntimeError(f"{func}: expected tensors of one type, but found {kinds}")
    if name.startswith("_foreach") and any(t.dim() and t.device != GPU for t in tensors):
        raise RuntimeError(f"{func}: expected tensors of one device, but some are on the CPU")
    refused = name in NOT_DETERMINISTIC and (name != "cumsum" or kinds)  # whole numbers add up
    if refused and torch.are_deterministic_algorithms_enabled():
        raise RuntimeError(f"{func} does not have a deterministic implementation")


def _line() -> str:
    """Return which line of ours, or of an optimiser of PyTorch's, is being run."""
    frames = [f for f in traceback.extract_stack() if f.filename != __file__]
    ours = [f for f in frames if "/torch/" not in f.filename or "/torch/optim/_" in f.filename]
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"


@contextmanager
def fake_gpu() -> Iterator[FakeGPU]:
    """Let cuda:0 be a fake GPU, also for a PyTorch that was built without CUDA."""
    if tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST:
        pytest.skip(f"torch {torch.__version__} ends the process on what this is built upon")
    gpu = FakeGPU()
    with (
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False),
        mock.patch.multiple("torch.cuda", **{n: Mock(return_value=v) for n, v in CARD.items()}),
        mock.patch("torch.optim.optimizer._foreach_supported_types", [Tensor, FakeTensor]),
        mock.patch("torch.utils._foreach_utils._foreach_supported_types", [Tensor, FakeTensor]),
        mock.patch("torch.save", _with_numbers(torch.save)),
        mock.patch("safetensors.torch.save_file", _with_numbers(save_file)),
        mock.patch.object(nn.Module, "to", _move),
        mock.patch.object(FakeTensor, "tolist", lambda tensor: tensor.cpu().tolist(), create=True),
        mock.patch.object(Tensor, "pin_memory", lambda tensor: tensor),
        mock.patch.object(Tensor, "backward", backward),
        _known_to_autograd(),
        gpu.fake,
        gpu,
    ):
        yield gpu


@contextmanager
def _known_to_autograd() -> Iterator[None]:
    """Let autograd ask about CUDA's streams what it asks of meta tensors: there are none."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    kinds = (ctypes.c_void_p * (META + 1)).in_dll(
        library, "_ZN3c104impl26device_guard_impl_registryE"
    )
    before = kinds[CUDA]
    kinds[CUDA] = before or kinds[META]
    try:
        yield
    finally:
        kinds[CUDA] = before


def _move(model: nn.Module, device: torch.device) -> nn.Module:
    """Do as ``model.to(device)``, which cannot put a fake tensor in a real one's place."""
    new: dict[Tensor, nn.Parameter] = {}
    for module in model.modules():
        for name, old in module.named_parameters(recurse=False, remove_duplicate=False):
            if old not in new:
                new[old] = nn.Parameter(old.detach().to(device), old.requires_grad)
            setattr(module, name, new[old])
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    return model


def backward(root: Tensor) -> None:
    """Do as ``root.backward()``, whose threads for GPUs need one."""
    first: Node = root.grad_fn
    users, found = Counter[Node](), [first]
    for node in found:
        for following, _ in node.next_functions:
            if following is not None and not users[following]:
                found.append(following)
            users[following] += 1
    gradients: dict[Node, dict[int, Tensor]] = {node: {} for node in found}
    gradients[first][0], ready = torch.ones_like(root), [first]
    while ready:
        node = ready.pop()
        results = _passed_on(node, gradients.pop(node))
        for (following, place), result in zip(node.next_functions, results, strict=False):
            if following is None:
                continue
            if result is not None:
                _add(gradients[following], following, place, result)
            users[following] -= 1
            if not users[following]:
                ready.append(following)


@torch.no_grad()
def _passed_on(node: Node, gradients: dict[int, Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradients of what a step of the forward pass read."""
    if not gradients:
        return (None,) * len(node.next_functions)
    if hasattr(node, "variable"):
        old = node.variable.grad
        node.variable.grad = gradients[0] if old is None else old + gradients[0]
        return ()
    run = node.apply if isinstance(node, torch.autograd.function.BackwardCFunction) else node
    results = run(*(gradients.get(i) for i in range(len(node._input_metadata))))
    return results if isinstance(results, tuple) else (results,)


def _add(gradients: dict[int, Tensor], node: Node, place: int, gradient: Tensor) -> None:
    """Add to the gradients that a node waits for, in the shape and type of its result."""
    like = node._input_metadata[place]
    gradient = gradient.sum_to_size(like.shape).to(like.dtype)
    gradients[place] = gradients[place] + gradient if place in gradients else gradient
