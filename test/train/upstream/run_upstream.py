"""Runs upstream's own main_moco.py or main_lincls.py, unmodified, on a CPU and on batches that a formula gives.

    python run_upstream.py '{"upstream": "...", "program": "main_moco", "args": [...], ...}'

Only what a CPU and a test need is replaced from outside: CUDA calls do nothing, one gloo process stands for the GPUs, tiny architectures are
added under names of their own, and the data loader gives the formula's batches. Prints one line of JSON on stdout: the loss of every step.

The job's fields: upstream (a checkout), program, args (its command line), arch (name -> sizes), dtype, batches ({seed, size, image,
perEpoch, classes}), scaler (whether losses are scaled, as on a GPU), ranks (processes of main_moco that share each batch, 1 by default).
Files are written to the current folder, as upstream does. With several ranks PyTorch's SyncBatchNorm, which needs GPUs, is replaced by
plain tensor operations and all-reduces that autograd knows, and the losses are means over the ranks.
"""
import contextlib, functools, json, pathlib, subprocess, sys, tempfile, types

import numpy as np
import torch


def unit(name, seed, shape):
    """The values in [-1, 1) of test/fixtures/formula."""
    code = 0x811C9DC5
    for byte in name.encode():
        code = (code ^ byte) * 0x01000193 & 0xFFFFFFFF

    def mix(x):
        x = (x ^ x >> 16) * 0x7FEB352D & 0xFFFFFFFF
        x = (x ^ x >> 15) * 0x846CA68B & 0xFFFFFFFF
        return x ^ x >> 16

    index = np.arange(int(np.prod(shape)), dtype=np.uint64)
    bits = mix(mix(index + np.uint64(seed) & np.uint64(0xFFFFFFFF)) ^ np.uint64(code))
    return torch.from_numpy(((bits >> np.uint64(8)).astype(np.float64) * 2.0**-23 - 1).reshape(shape))


class Batches:
    """In place of a DataLoader: two views per image, or one view and a class."""

    epoch = 0  # of upstream's sampler

    def __init__(self, job):
        self.job, self.sizes, self.dtype = job, job["batches"], getattr(torch, job["dtype"])

    def __len__(self):
        return self.sizes["perEpoch"]

    def __iter__(self):
        sizes = self.sizes
        shape = [sizes["size"], 3, sizes["image"], sizes["image"]]
        mine = slice(self.job.get("rank", 0), None, self.job.get("ranks", 1))
        for i in range(len(self)):
            step = Batches.epoch * len(self) + i
            views = [unit(f"x{view}_{step}", sizes["seed"], shape).to(self.dtype) for view in (1, 2)]
            labels = torch.arange(sizes["size"]) % sizes.get("classes", 1)
            yield ([view[mine] for view in views] if self.job["program"] == "main_moco" else views[0]), labels


class SyncNorm(torch.nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the batches of all ranks, which have as many rows each."""

    def _check_input_dim(self, x):
        pass

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        from torch.distributed.nn.functional import all_reduce

        others = [d for d in range(x.ndim) if d != 1]
        count = x.numel() // x.shape[1] * torch.distributed.get_world_size()
        along = [1, -1, *[1] * (x.ndim - 2)]
        mean = all_reduce(x.sum(others)) / count
        centred = x - mean.view(along)
        variance = all_reduce(centred.square().sum(others)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        y = centred / (variance + self.eps).sqrt().view(along)
        return y * self.weight.view(along) + self.bias.view(along) if self.affine else y

    @classmethod
    def convert(cls, module):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.modules.batchnorm._BatchNorm):
                norm = cls(child.num_features, child.eps, child.momentum, child.affine)
                norm.load_state_dict(child.state_dict())
                for mine, its in zip(norm.parameters(), child.parameters()):
                    mine.requires_grad = its.requires_grad
                module.add_module(name, norm)
            else:
                cls.convert(child)
        return module


class Sampler:
    def __init__(self, dataset):
        pass

    def set_epoch(self, epoch):
        Batches.epoch = epoch


class Losses:
    """In place of TensorBoard's SummaryWriter."""

    values = []

    def add_scalar(self, name, value, step):
        if name == "loss":
            Losses.values.append(value)

    def close(self):
        pass


def narrow_resnet(layers, width):
    """A torchvision ResNet of basic blocks whose channels are `width`/64 of the usual ones."""
    from torchvision.models.resnet import BasicBlock, ResNet

    class Narrow(ResNet):
        def _make_layer(self, block, planes, *args, **kwargs):
            if planes == 64:  # the first: the stem has been built at full width
                self.inplanes = width
                self.conv1 = torch.nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
                self.bn1 = torch.nn.BatchNorm2d(width)
            return super()._make_layer(block, planes * width // 64, *args, **kwargs)

    def build(num_classes=1000, **kwargs):
        model = Narrow(BasicBlock, layers, **kwargs)
        model.fc = torch.nn.Linear(8 * width, num_classes)
        return model

    return build


def run(job):
    sys.path.insert(0, job["upstream"])
    sys.modules["torch.utils.tensorboard"] = types.SimpleNamespace(SummaryWriter=Losses)
    dtype = getattr(torch, job["dtype"])
    torch.manual_seed(job.get("seed", 0))
    torch.set_num_threads(1)

    import torchvision.datasets
    import torchvision.models
    import vits

    program = __import__(job["program"])

    torchvision.datasets.ImageFolder = lambda *args: None
    torch.cuda.is_available = lambda: True
    torch.cuda.is_current_stream_capturing = lambda: False
    torch.Tensor.cuda = lambda self, *args, **kwargs: self
    torch.nn.Module.cuda = lambda self, *args: self.to(dtype)
    torch.nn.SyncBatchNorm.convert_sync_batchnorm = SyncNorm.convert if job.get("ranks", 1) > 1 else lambda model: model
    torch.cuda.amp.autocast = lambda enabled: contextlib.nullcontext()
    torch.cuda.amp.GradScaler = lambda: torch.amp.GradScaler("cpu", enabled=job.get("scaler", False))
    torch.utils.data.DataLoader = lambda *args, **kwargs: Batches(job)
    torch.utils.data.distributed.DistributedSampler = Sampler

    for name, sizes in job["arch"].items():
        if name.startswith("vit"):
            norm = functools.partial(torch.nn.LayerNorm, eps=1e-6)
            vits.__dict__[name] = functools.partial(vits.VisionTransformerMoCo, mlp_ratio=4, qkv_bias=True, norm_layer=norm, **sizes)
        else:
            torchvision.models.__dict__[name] = narrow_resnet(**sizes)
        program.model_names.append(name)

    if "rank" in job:  # upstream's summary has the first rank's losses only
        update = program.AverageMeter.update

        def listen(meter, value, *rest):
            if meter.name == "Loss":
                Losses.values.append(value)
            update(meter, value, *rest)

        program.AverageMeter.update = listen
        Losses.add_scalar = lambda *rest: None
    place = ["--world-size", str(job.get("ranks", 1)), "--rank", str(job.get("rank", 0))]
    args = program.parser.parse_args(["no-data", "--dist-backend", "gloo", *place, *job["args"]])
    args.distributed = True
    with tempfile.TemporaryDirectory() as folder:
        args.dist_url = f"file://{job.get('meeting', folder)}/rendezvous"
        with contextlib.redirect_stdout(sys.stderr):
            program.main_worker(None, 1, args)
        torch.distributed.destroy_process_group()
    return {"losses": Losses.values}


def run_ranks(job):
    """The first rank leaves its files in the current folder, and the others theirs nowhere."""
    with tempfile.TemporaryDirectory() as meeting:
        def start(rank):
            folder = pathlib.Path.cwd() if rank == 0 else pathlib.Path(meeting, str(rank))
            folder.mkdir(exist_ok=True)
            words = [sys.executable, __file__, json.dumps({**job, "rank": rank, "meeting": meeting})]
            return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True)

        ranks = [start(rank) for rank in range(job["ranks"])]
        losses = [json.loads(rank.communicate()[0] or "{}").get("losses") for rank in ranks]
    if any(rank.returncode for rank in ranks):
        sys.exit(1)
    return {"losses": np.mean(losses, axis=0).tolist()}


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    print(json.dumps(run_ranks(job) if job.get("ranks", 1) > 1 and "rank" not in job else run(job)))
