"""The networks written anew for speed in PyTorch, for the CPU and for a GPU: fused attention, both views as one batch where nothing forbids it,
channels last for convolutions."""
import torch
import torch.nn.functional as F
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
    def __init__(self, dim, depth, conv_stem, stop_grad, size):
        super().__init__()
        self.dim = dim
        self.stem = ConvStem(dim) if conv_stem else nn.Conv2d(3, dim, 16, 16).requires_grad_(not stop_grad)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_buffer("positions", torch.randn(1, 1 + (size // 16) ** 2, dim) * 0.02)
        self.blocks = nn.Sequential(*[Block(dim, 12) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim, 1e-6)

    def forward(self, views):
        patches = self.stem(views).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(patches), -1, -1), patches], 1) + self.positions
        return self.norm(self.blocks(x)[:, 0])


class ResNet(nn.Module):
    def __init__(self, build, layout=torch.channels_last):
        super().__init__()
        self.layout = layout
        self.net = build(zero_init_residual=True).to(memory_format=layout)
        self.dim = self.net.fc.in_features
        self.net.fc = nn.Identity()

    def forward(self, views):
        return torch.cat([self.net(view) for view in views.contiguous(memory_format=self.layout).chunk(2)])


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


def vit_of(arch, size, stop_grad):
    """The encoder of an architecture that upstream names."""
    conv = "conv" in arch
    return ViT(768 if "base" in arch else 384, 11 if conv else 12, conv, stop_grad, size)
