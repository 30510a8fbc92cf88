"""The network once more, in PyTorch, written from the specification alone: a second opinion.

`convert_weights.py --check` compares a file's own weights in it with the conversion, the tests do
so at sizes and widths that the measured cases leave out, and the benchmarks time it. Its state dict
has the published names; images are [batch, channels, height, width], as PyTorch wants them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def outputs(fields: Mapping[str, Any], tensors: Mapping[str, np.ndarray], images: np.ndarray):
    """Returns logits, or pooled features where there is no head: float32 [batch, channels].

    Args:
        fields: of a `ShuntedTransformer`, those of its architecture.
        tensors: the published names to floating-point arrays.
        images: float32 [batch, height, width, channels], normalised.
    """
    network = TorchShunted(**fields).eval()
    learned = [name for name, t in network.state_dict().items() if t.is_floating_point()]
    own = {name: torch.from_numpy(np.array(tensors[name], np.float32)) for name in learned}
    network.load_state_dict(own, strict=False)  # what is left counts batch norm's batches
    with torch.inference_mode():
        return network(_channels_first(torch.from_numpy(images))).numpy()


def _channels_first(x):
    return x.permute(0, 3, 1, 2)


def _channels_last(x):
    return x.permute(0, 2, 3, 1)


def _depthwise(dim):
    return nn.Conv2d(dim, dim, 3, padding=1, groups=dim)


class _Stem(nn.Module):
    def __init__(self, dim, num_extra_convs, in_channels):
        super().__init__()
        layers = [nn.Conv2d(in_channels, dim, 7, stride=2, padding=3, bias=False)]
        for _ in range(num_extra_convs):
            layers += [
                nn.BatchNorm2d(dim),
                nn.ReLU(),
                nn.Conv2d(dim, dim, 3, padding=1, bias=False),
            ]
        layers += [nn.BatchNorm2d(dim), nn.ReLU(), nn.Conv2d(dim, dim, 2, stride=2)]
        self.conv = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(dim)

    def forward(self, images):
        return self.norm(_channels_last(self.conv(images)))


class _PatchEmbed(nn.Module):
    def __init__(self, in_dim, out_dim):
        super().__init__()
        self.proj = nn.Conv2d(in_dim, out_dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(out_dim)

    def forward(self, x):
        return self.norm(_channels_last(self.proj(_channels_first(x))))


class _Attention(nn.Module):
    def __init__(self, dim, heads, ratio, qkv_bias):
        super().__init__()
        self.heads, self.ratio = heads, ratio
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        if ratio == 1:
            self.kv = nn.Linear(dim, 2 * dim, bias=qkv_bias)
            self.local_conv = _depthwise(dim)
            return
        self.sr1 = nn.Conv2d(dim, dim, ratio, stride=ratio)
        self.norm1 = nn.LayerNorm(dim)
        self.sr2 = nn.Conv2d(dim, dim, ratio // 2, stride=ratio // 2)
        self.norm2 = nn.LayerNorm(dim)
        self.kv1 = nn.Linear(dim, dim, bias=qkv_bias)
        self.kv2 = nn.Linear(dim, dim, bias=qkv_bias)
        self.local_conv1 = _depthwise(dim // 2)
        self.local_conv2 = _depthwise(dim // 2)

    @staticmethod
    def attend(q, k, v, heads):
        batch, height, width, dim = q.shape

        def split(t):
            return t.reshape(batch, -1, heads, dim // heads).transpose(1, 2)

        out = functional.scaled_dot_product_attention(split(q), split(k), split(v))
        return out.transpose(1, 2).reshape(batch, height, width, dim)

    def group(self, number, q, x):
        tokens = _channels_last(getattr(self, f"sr{number}")(_channels_first(x)))
        tokens = functional.gelu(getattr(self, f"norm{number}")(tokens))
        k, v = getattr(self, f"kv{number}")(tokens).chunk(2, dim=-1)
        v = v + _channels_last(getattr(self, f"local_conv{number}")(_channels_first(v)))
        return self.attend(q, k, v, self.heads // 2)

    def forward(self, x):
        q = self.q(x)
        if self.ratio == 1:
            k, v = self.kv(x).chunk(2, dim=-1)
            local = _channels_last(self.local_conv(_channels_first(v)))
            return self.proj(self.attend(q, k, v, self.heads) + local)
        coarse, fine = q.chunk(2, dim=-1)
        return self.proj(torch.cat([self.group(1, coarse, x), self.group(2, fine, x)], dim=-1))


class _DWConv(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dwconv = _depthwise(dim)

    def forward(self, x):
        return _channels_last(self.dwconv(_channels_first(x)))


class _FeedForward(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = _DWConv(hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x):
        y = self.fc1(x)
        return self.fc2(functional.gelu(y + self.dwconv(y)))


class _Block(nn.Module):
    def __init__(self, dim, heads, mlp_ratio, ratio, qkv_bias):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = _Attention(dim, heads, ratio, qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = _FeedForward(dim, int(dim * mlp_ratio))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TorchShunted(nn.Module):
    """Takes the fields of a `ShuntedTransformer` by keyword; there is no drop path."""

    def __init__(
        self,
        depths,
        embed_dims=(64, 128, 256, 512),
        num_heads=(2, 4, 8, 16),
        mlp_ratios=(8, 8, 4, 4),
        sr_ratios=(8, 4, 2, 1),
        num_stem_convs=0,
        num_classes=1000,
        in_channels=3,
        qkv_bias=True,
    ):
        super().__init__()
        self.num_stages = len(depths)
        for index, depth in enumerate(depths):
            dim = embed_dims[index]
            embed = (
                _PatchEmbed(embed_dims[index - 1], dim)
                if index
                else _Stem(dim, num_stem_convs, in_channels)
            )
            row = (dim, num_heads[index], mlp_ratios[index], sr_ratios[index], qkv_bias)
            blocks = nn.ModuleList(_Block(*row) for _ in range(depth))
            setattr(self, f"patch_embed{index + 1}", embed)
            setattr(self, f"block{index + 1}", blocks)
            setattr(self, f"norm{index + 1}", nn.LayerNorm(dim, eps=1e-6))
        self.head = nn.Linear(embed_dims[-1], num_classes) if num_classes else nn.Identity()

    def features(self, x):
        """Returns each stage's map, [batch, height, width, channels]."""
        maps = []
        for number in range(1, self.num_stages + 1):
            x = getattr(self, f"patch_embed{number}")(x)
            for block in getattr(self, f"block{number}"):
                x = block(x)
            x = getattr(self, f"norm{number}")(x)
            maps.append(x)
        return maps

    def forward(self, images):
        """Returns logits, [batch, classes]; pooled features where there are no classes."""
        return self.head(self.features(images)[-1].mean(dim=(1, 2)))
