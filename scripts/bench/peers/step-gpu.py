"""PyTorch's sides of the step benchmark on a GPU: upstream's own classes from a checkout as its training loop drives them, or the same recipe
written anew for speed. One request for each line of input, one line of JSON in answer."""
import functools
import gc
import json
import os
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")
settings = json.loads(sys.argv[1])
side, upstream = settings["side"], settings["upstream"]
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
# What torch.compile has found stays, so that a second try is sooner done.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.abspath("build/inductor"))

import torch
import torch.nn.functional as F
import torchvision.models
from torch import nn

from tuned_networks import Head, ResNet, ViT, vit_of

device = torch.device(settings["device"])
on_gpu = device.type == "cuda"
torch.backends.cudnn.benchmark = True
if not on_gpu:
    torch.Tensor.cuda = lambda self, *_, **__: self  # upstream's loss moves its labels to a GPU


def synchronize():
    if on_gpu:
        torch.cuda.synchronize()


def tiny_resnet(**options):
    return torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], **options)


class Upstream:
    """main_moco.py's training step: DistributedDataParallel, SyncBatchNorm, float16 autocast, GradScaler, the loss read twice."""

    def __init__(self, arch, batch, imageSize, mlp, optimizer, stop_grad, **_):
        import moco.builder
        import moco.optimizer
        import vits

        if arch == "tiny_vit":
            encoder = functools.partial(vits.VisionTransformerMoCo, img_size=imageSize, patch_size=16, embed_dim=48, depth=2, num_heads=12,
                                        qkv_bias=True, stop_grad_conv1=stop_grad)
        elif "vit" in arch:
            encoder = functools.partial(getattr(vits, arch), stop_grad_conv1=stop_grad)
        else:
            encoder = functools.partial(tiny_resnet if arch == "tiny_resnet" else getattr(torchvision.models, arch), zero_init_residual=True)
        model = moco.builder.MoCo_ViT(encoder, 256, mlp, 0.2) if "vit" in arch else moco.builder.MoCo_ResNet(encoder, 256, mlp, 1.0)
        if on_gpu:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model).cuda(0)
        self.model = nn.parallel.DistributedDataParallel(model, device_ids=[0] if on_gpu else None)
        if optimizer == "adamw":
            self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-4, weight_decay=0.1)
        else:
            self.optimizer = moco.optimizer.LARS(self.model.parameters(), 0.1, weight_decay=1e-6, momentum=0.9)
        self.scaler = torch.cuda.amp.GradScaler(enabled=on_gpu)
        self.model.train()

    def step(self, x1, x2):
        with torch.cuda.amp.autocast(on_gpu):
            loss = self.model(x1, x2, 0.99)
        value = loss.item()
        loss.item()
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return value


class Tuned:
    """The recipe with fused attention, both views as one batch, fused optimisers and no value read back; optionally compiled. In float16 the
    loss has a fixed scale."""

    def __init__(self, arch, batch, imageSize, mlp, optimizer, stop_grad, precision, compile=None, nchw=False, **_):
        self.dtype = torch.float16 if precision == "fp16" else torch.bfloat16
        self.scale = 1024.0 if precision == "fp16" else 1.0
        self.inverse, self.found = torch.full([], 1 / self.scale, device=device), torch.zeros([], device=device)
        self.temperature = 0.2 if "vit" in arch else 1.0

        def encoder():
            if "vit" in arch:
                return ViT(48, 2, False, stop_grad, imageSize) if arch == "tiny_vit" else vit_of(arch, imageSize, stop_grad)
            build = tiny_resnet if arch == "tiny_resnet" else getattr(torchvision.models, arch)
            return ResNet(build, torch.contiguous_format if nchw else torch.channels_last)

        def network():
            body = encoder()
            sizes = [body.dim, mlp, mlp, 256] if "vit" in arch else [body.dim, mlp, 256]
            return nn.Sequential(body, Head(sizes, True)).to(device)

        self.base, self.momentum = network(), network().requires_grad_(False)
        self.momentum.load_state_dict(self.base.state_dict())
        self.predictor = Head([256, mlp, 256], "vit" in arch).to(device)
        self.pair = [list(self.momentum.parameters()), list(self.base.parameters())]
        self.learned = [p for net in (self.base, self.predictor) for p in net.parameters() if p.requires_grad]
        self.fused = torch.optim.AdamW(self.learned, 1e-4, weight_decay=0.1, fused=True) if optimizer == "adamw" else None
        self.buffers = [torch.zeros_like(p) for p in self.learned]
        self.loss = torch.compile(self.forward, mode=compile) if compile else self.forward

    def forward(self, views):
        with torch.autocast(device.type, self.dtype):
            q = self.predictor(self.base(views))
            with torch.no_grad():
                k = self.momentum(views)
        q, k = F.normalize(q.float(), dim=1), F.normalize(k.float(), dim=1)
        (q1, q2), (k1, k2) = q.chunk(2), k.chunk(2)
        labels = torch.arange(len(q1), device=device)
        losses = [F.cross_entropy(a @ b.t() / self.temperature, labels) for a, b in ((q1, k2), (q2, k1))]
        return 2 * self.temperature * (losses[0] + losses[1])

    def step(self, x1, x2):
        torch.compiler.cudagraph_mark_step_begin()
        with torch.no_grad():
            torch._foreach_lerp_(*self.pair, 0.01)
        loss = self.loss(torch.cat([x1, x2]))
        (loss * self.scale if self.scale > 1 else loss).backward()
        if self.scale > 1:
            torch._amp_foreach_non_finite_check_and_unscale_([p.grad for p in self.learned], self.found, self.inverse)
        if self.fused:
            self.fused.step()
        else:
            self.lars()
        for p in self.learned:
            p.grad = None
        return loss

    @torch.no_grad()
    def lars(self):
        wide = [p for p in self.learned if p.ndim > 1]
        directions = torch._foreach_add([p.grad for p in wide], wide, alpha=1e-6)
        sizes, lengths = torch.stack(torch._foreach_norm(wide)), torch.stack(torch._foreach_norm(directions))
        ratios = torch.where((sizes > 0) & (lengths > 0), 0.001 * sizes / lengths, torch.ones_like(sizes))
        torch._foreach_mul_(directions, list(ratios.unbind()))
        scaled = iter(directions)
        gradients = [next(scaled) if p.ndim > 1 else p.grad for p in self.learned]
        torch._foreach_mul_(self.buffers, 0.9)
        torch._foreach_add_(self.buffers, gradients)
        torch._foreach_add_(self.learned, self.buffers, alpha=-0.1)


def trouble(asked):
    """Why this side cannot be measured here, or None."""
    if on_gpu and not torch.cuda.is_available():
        return f"torch {torch.__version__} of {sys.executable} sees no GPU"
    try:
        if side == "upstream":
            import moco.builder, moco.optimizer, vits  # noqa: E401
        if asked == "compiled":
            torch.compile(lambda x: 2 * x + 1)(torch.ones(8, device=device))
            torch._dynamo.reset()
    except Exception as error:  # whatever it is, it is told
        return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
    return None


def profile(steps):
    """Milliseconds of a step on the GPU by kind of kernel."""
    from torch.profiler import ProfilerActivity, profile as record

    with record(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as recorded:
        for _ in range(steps):
            training.step(*views)
        synchronize()
    kernels = [(e.key, e.self_device_time_total / steps / 1000, e.count / steps) for e in recorded.key_averages() if e.device_type.name == "CUDA"]
    kernels.sort(key=lambda each: -each[1])
    return {"totalMs": sum(ms for _, ms, _ in kernels), "launches": sum(n for _, _, n in kernels),
            "kernels": [{"name": name[:90], "ms": round(ms, 3), "count": n} for name, ms, n in kernels[:30]]}


if side == "upstream":
    sys.path.insert(0, upstream)
if side == "upstream" and (torch.cuda.is_available() or not on_gpu):
    rendezvous = os.path.join(tempfile.mkdtemp(), "store")
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo", init_method=f"file://{rendezvous}", world_size=1, rank=0)

training, views = None, None
for line in sys.stdin:
    request = json.loads(line)
    what = request.pop("do")
    answer = {}
    try:
        if what == "check":
            why = trouble(request["side"])
            answer = {} if why is None else {"trouble": why}
        elif what == "setup":
            torch.manual_seed(0)
            torch._dynamo.reset()
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            training = (Upstream if side == "upstream" else Tuned)(**request)
            size = request["imageSize"]
            views = [torch.randn(request["batch"], 3, size, size, device=device) for _ in range(2)]
            for _ in range(request["warmup"]):
                loss = training.step(*views)
            synchronize()
            answer = {"seconds": time.perf_counter() - start, "loss": float(loss)}
        elif what == "measure":
            synchronize()
            start = time.perf_counter()
            for _ in range(request["steps"]):
                loss = training.step(*views)
            synchronize()
            answer = {"seconds": (time.perf_counter() - start) / request["steps"], "loss": float(loss),
                      "peakBytes": torch.cuda.max_memory_allocated() if on_gpu else 0,
                      "reservedBytes": torch.cuda.max_memory_reserved() if on_gpu else 0}
        elif what == "profile":
            answer = profile(request["steps"])
        elif what == "drop":
            training, views, loss = None, None, None
            torch._dynamo.reset()
            gc.collect()
            synchronize()
            if on_gpu:
                torch.cuda.empty_cache()
    except torch.cuda.OutOfMemoryError:
        answer = {"outOfMemory": True}
    if "outOfMemory" in answer:  # here, where the exception no longer holds the step's tensors
        training, views, loss = None, None, None
        gc.collect()
        torch.cuda.empty_cache()
    print(json.dumps(answer), flush=True)
