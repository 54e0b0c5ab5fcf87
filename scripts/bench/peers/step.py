"""Upstream's side of the step benchmark: its own classes from a checkout, one training step for each line of input."""
import functools
import json
import os
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")
settings, upstream = json.loads(sys.argv[1]), sys.argv[2]
sys.path.insert(0, upstream)

import torch
import torch.distributed
import torchvision.models

torch.Tensor.cuda = lambda self, *_, **__: self  # the loss moves its labels to a GPU
torch.set_num_threads(settings["threads"])
rendezvous = os.path.join(tempfile.mkdtemp(), "store")
torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", world_size=1, rank=0)

import moco.builder
import moco.optimizer
import vits

torch.manual_seed(0)
if settings["arch"].startswith("vit"):
    encoder = functools.partial(getattr(vits, settings["arch"]), stop_grad_conv1=settings["stopGradConv1"])
    model = moco.builder.MoCo_ViT(encoder, 256, 4096, 0.2)
else:
    encoder = functools.partial(getattr(torchvision.models, settings["arch"]), zero_init_residual=True)
    model = moco.builder.MoCo_ResNet(encoder, 256, 4096, 0.2)
if settings["optimizer"] == "adamw":
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=0.1)
else:
    optimizer = moco.optimizer.LARS(model.parameters(), 0.1, weight_decay=1e-6, momentum=0.9)
size = settings["imageSize"]
views = [torch.randn(settings["batch"], 3, size, size) for _ in range(2)]

for _ in sys.stdin:
    start = time.perf_counter()
    loss = model(views[0], views[1], 0.99)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    value = loss.item()
    print(json.dumps({"seconds": time.perf_counter() - start, "loss": value}), flush=True)
