"""Upstream's side of the benchmarks of training: its own classes from a checkout, put together as its program does. Without a GPU there is neither
DistributedDataParallel nor mixed precision, which that program has on GPUs only."""
import functools
import os
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch
import torch.distributed
import torchvision.models
from torch import nn


class Upstream:
    """A training; `step` does what the inside of its program's loop does."""

    def __init__(self, checkout, arch, optimizer, stopGradConv1, temperature, mlpDim, device, threads, **_):
        sys.path.insert(0, checkout)
        self.on_gpu = device.startswith("cuda")
        if not self.on_gpu:
            torch.Tensor.cuda = lambda self, *_, **__: self  # the loss moves its labels to a GPU
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = True
        rendezvous = os.path.join(tempfile.mkdtemp(), "store")
        torch.distributed.init_process_group("nccl" if self.on_gpu else "gloo", init_method=f"file://{rendezvous}", world_size=1, rank=0)

        import moco.builder
        import moco.optimizer
        import vits

        torch.manual_seed(0)
        if arch.startswith("vit"):
            encoder = functools.partial(getattr(vits, arch), stop_grad_conv1=stopGradConv1)
            model = moco.builder.MoCo_ViT(encoder, 256, mlpDim, temperature)
        else:
            encoder = functools.partial(getattr(torchvision.models, arch), zero_init_residual=True)
            model = moco.builder.MoCo_ResNet(encoder, 256, mlpDim, temperature)
        if self.on_gpu:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model).cuda(0)
            model = nn.parallel.DistributedDataParallel(model, device_ids=[0])
        self.model = model.train()
        if optimizer == "adamw":
            self.optimizer = torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=0.1)
        else:
            self.optimizer = moco.optimizer.LARS(model.parameters(), 0.1, weight_decay=1e-6, momentum=0.9)
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.on_gpu)

    def step(self, x1, x2):
        if self.on_gpu:
            x1, x2 = x1.cuda(0, non_blocking=True), x2.cuda(0, non_blocking=True)
        with torch.autocast("cuda", torch.float16, enabled=self.on_gpu):
            loss = self.model(x1, x2, 0.99)
        value = loss.item()
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return value
