"""The recipe written anew for speed in PyTorch, for the CPU: fused attention, both views as one batch where nothing forbids it, channels last for
convolutions, fused AdamW, updates of many tensors at once, no gradient for the frozen projection; compiled where asked for."""
import torch
import torch.nn.functional as F
import torchvision.models
from torch import nn

from tuned_networks import Head, ResNet, vit_of


class Tuned:
    """A training. Nothing but the loss is read back."""

    def __init__(self, arch, optimizer, stopGradConv1, temperature, mlpDim, imageSize, threads, compile=False, **_):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        is_vit = arch.startswith("vit")

        def network():
            body = vit_of(arch, imageSize, stopGradConv1) if is_vit else ResNet(getattr(torchvision.models, arch))
            sizes = [body.dim, mlpDim, mlpDim, 256] if is_vit else [body.dim, mlpDim, 256]
            return nn.Sequential(body, Head(sizes, True))

        self.temperature = temperature
        self.base, self.momentum = network(), network().requires_grad_(False)
        self.momentum.load_state_dict(self.base.state_dict())
        self.predictor = Head([256, mlpDim, 256], is_vit)
        self.pair = [list(self.momentum.parameters()), list(self.base.parameters())]
        self.learned = [p for net in (self.base, self.predictor) for p in net.parameters() if p.requires_grad]
        self.adamw = torch.optim.AdamW(self.learned, 1e-4, weight_decay=0.1, fused=True) if optimizer == "adamw" else None
        self.velocities = [torch.zeros_like(p) for p in self.learned] if self.adamw is None else []
        self.loss = torch.compile(self.forward) if compile else self.forward

    def forward(self, views):
        q = F.normalize(self.predictor(self.base(views)), dim=1)
        with torch.no_grad():
            k = F.normalize(self.momentum(views), dim=1)
        (q1, q2), (k1, k2) = q.chunk(2), k.chunk(2)
        labels = torch.arange(len(q1))
        losses = [F.cross_entropy(a @ b.t() / self.temperature, labels) for a, b in ((q1, k2), (q2, k1))]
        return 2 * self.temperature * (losses[0] + losses[1])

    def step(self, x1, x2):
        with torch.no_grad():
            torch._foreach_lerp_(*self.pair, 0.01)
        loss = self.loss(torch.cat([x1, x2]))
        loss.backward()
        if self.adamw is not None:
            self.adamw.step()
        else:
            self.lars()
        for p in self.learned:
            p.grad = None
        return loss.item()

    @torch.no_grad()
    def lars(self, rate=0.1, decay=1e-6, trust=0.001, momentum=0.9):
        wide = [p for p in self.learned if p.ndim > 1]
        directions = torch._foreach_add([p.grad for p in wide], wide, alpha=decay)
        sizes, lengths = torch.stack(torch._foreach_norm(wide)), torch.stack(torch._foreach_norm(directions))
        ratios = torch.where((sizes > 0) & (lengths > 0), trust * sizes / lengths, torch.ones_like(sizes))
        torch._foreach_mul_(directions, list(ratios.unbind()))
        scaled = iter(directions)
        gradients = [next(scaled) if p.ndim > 1 else p.grad for p in self.learned]
        torch._foreach_mul_(self.velocities, momentum)
        torch._foreach_add_(self.velocities, gradients)
        torch._foreach_add_(self.learned, self.velocities, alpha=-rate)


def matrix_product_tflops(threads, n=4096, times=5):
    """TFLOP/s of a large float32 product of random numbers, by each library that libtorch has for it: what the arithmetic of a step is held against.
    PyTorch's own products are MKL's, its convolutions oneDNN's."""
    import time

    torch.set_num_threads(threads)
    a, b = torch.randn(n, n), torch.randn(n, n)
    products = {"mkl": lambda: a @ b, "oneDnn": lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")}
    seconds = {name: [] for name in products}
    for _ in range(times + 1):
        for name, product in products.items():
            start = time.perf_counter()
            product()
            seconds[name].append(time.perf_counter() - start)
    return {name: 2 * n**3 / sorted(each[1:])[times // 2] / 1e12 for name, each in seconds.items()}
