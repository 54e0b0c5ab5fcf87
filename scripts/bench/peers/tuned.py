"""The recipe written anew for speed in PyTorch, for the CPU: fused attention, both views as one batch where nothing forbids it, channels last for
convolutions, fused AdamW, updates of many tensors at once, no gradient for the frozen projection; compiled where asked for."""
import torch
import torch.nn.functional as F
import torchvision.models
from torch import nn


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.attention = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ConvStem(nn.Module):
    """Batch normalisation sees one view at a time."""

    def __init__(self, dim):
        super().__init__()
        layers, channels = [], [3, dim // 8, dim // 4, dim // 2, dim]
        for before, after in zip(channels, channels[1:]):
            layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(dim, dim, 1)).to(memory_format=torch.channels_last)

    def forward(self, views):
        return torch.cat([self.layers(view.contiguous(memory_format=torch.channels_last)) for view in views.chunk(2)])


class ViT(nn.Module):
    def __init__(self, arch, size, stop_grad):
        super().__init__()
        conv = "conv" in arch
        self.dim = 768 if "base" in arch else 384
        self.stem = ConvStem(self.dim) if conv else nn.Conv2d(3, self.dim, 16, 16).requires_grad_(not stop_grad)
        self.cls = nn.Parameter(torch.zeros(1, 1, self.dim))
        self.register_buffer("positions", torch.randn(1, 1 + (size // 16) ** 2, self.dim) * 0.02)
        self.blocks = nn.Sequential(*[Block(self.dim, 12) for _ in range(11 if conv else 12)])
        self.norm = nn.LayerNorm(self.dim, 1e-6)

    def forward(self, views):
        patches = self.stem(views).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(patches), -1, -1), patches], 1) + self.positions
        return self.norm(self.blocks(x)[:, 0])


class ResNet(nn.Module):
    def __init__(self, arch):
        super().__init__()
        self.net = getattr(torchvision.models, arch)(zero_init_residual=True).to(memory_format=torch.channels_last)
        self.dim = self.net.fc.in_features
        self.net.fc = nn.Identity()

    def forward(self, views):
        return torch.cat([self.net(view) for view in views.contiguous(memory_format=torch.channels_last).chunk(2)])


class Head(nn.Module):
    """Linear layers see both views at once, batch normalisation one after the other."""

    def __init__(self, sizes, last_norm):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in zip(sizes, sizes[1:]))
        norms = len(sizes) - 1 if last_norm else len(sizes) - 2
        self.norms = nn.ModuleList(nn.BatchNorm1d(size, affine=i < len(sizes) - 2) for i, size in enumerate(sizes[1:][:norms]))

    def forward(self, x):
        for i, linear in enumerate(self.linears):
            x = linear(x)
            if i < len(self.norms):
                x = torch.cat([self.norms[i](view) for view in x.chunk(2)])
            if i < len(self.linears) - 1:
                x = F.relu(x)
        return x


class Tuned:
    """A training. Nothing but the loss is read back."""

    def __init__(self, arch, optimizer, stopGradConv1, temperature, mlpDim, imageSize, threads, compile=False, **_):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        is_vit = arch.startswith("vit")

        def network():
            body = ViT(arch, imageSize, stopGradConv1) if is_vit else ResNet(arch)
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
    """TFLOP/s of a large float32 product of random numbers: what the arithmetic of a step is held against."""
    import time

    torch.set_num_threads(threads)
    a, b = torch.randn(n, n), torch.randn(n, n)
    seconds = []
    for _ in range(times + 1):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / sorted(seconds[1:])[times // 2] / 1e12
