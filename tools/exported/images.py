"""Small convolutional models, as people write them in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.down = (
            nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
            if stride != 1 or c_in != c_out
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.down(x))


class ResNet(nn.Module):
    """7x7 stem, max pooling, residual blocks, global average pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential(Residual(8, 8), Residual(8, 16, 2))
        self.drop = nn.Dropout(0.0)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.pool(self.stem(x)))
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        return self.fc(self.drop(x))


class SqueezeExcite(nn.Module):
    """Channels scaled by a gate computed from their means."""

    def __init__(self, c: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(c, 4, 1), nn.Conv2d(4, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        s = F.relu(self.fc1(x.mean((2, 3), keepdim=True)))
        return x * F.hardsigmoid(self.fc2(s))


class InvertedResidual(nn.Module):
    """Expand by 1x1, depthwise 3x3 or 5x5, squeeze-excite, project by 1x1."""

    def __init__(self, c_in: int, c_out: int, expand: int, kernel: int, stride: int, act: type[nn.Module], se: bool):
        super().__init__()
        hidden = c_in * expand
        self.same = stride == 1 and c_in == c_out
        layers = [
            nn.Conv2d(c_in, hidden, 1, bias=False), nn.BatchNorm2d(hidden, eps=1e-3, momentum=0.01), act(),
            nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden, eps=1e-3, momentum=0.01), act(),
            SqueezeExcite(hidden) if se else nn.Identity(),
            nn.Conv2d(hidden, c_out, 1, bias=False), nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.01),
        ]  # fmt: skip
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return x + y if self.same else y


class MobileNet(nn.Module):
    """Inverted residuals with ReLU6, hard swish and squeeze-excite."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.body = nn.Sequential(
            InvertedResidual(8, 8, 2, 3, 1, nn.ReLU6, False),
            InvertedResidual(8, 12, 2, 5, 2, nn.Hardswish, True),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.0), nn.Linear(12, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)))


def _double(c_in: int, c_out: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU(),
        nn.Conv2d(c_out, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU(),
    )  # fmt: skip


class UNet(nn.Module):
    """Two levels down, one up by transposed convolution and one by bilinear resizing, skips by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.d1, self.d2, self.d3 = _double(1, 4), _double(4, 8), _double(8, 8)
        self.up1 = nn.ConvTranspose2d(8, 8, 2, 2)
        self.u1 = _double(16, 4)
        self.up2 = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.u2 = _double(8, 4)
        self.near = nn.Upsample(scale_factor=2, mode="nearest")
        self.out = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.d1(x)
        b = self.d2(F.max_pool2d(a, 2))
        c = self.d3(F.avg_pool2d(b, 2))
        y = self.u1(torch.cat([self.up1(c), b], 1))
        y = self.u2(torch.cat([self.up2(y), a], 1))
        return self.out(y) + self.near(F.max_pool2d(self.out(y), 2))


class ConvNeXt(nn.Module):
    """Patch stem, depthwise 7x7, LayerNorm over the last axis, inverted bottleneck with GELU and layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.depthwise = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.norm = nn.LayerNorm(8, eps=1e-6)
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 8)
        self.gamma = nn.Parameter(torch.full((8,), 0.3))
        self.last = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.depthwise(x).permute(0, 2, 3, 1)
        y = self.gamma * self.fc2(F.gelu(self.fc1(self.norm(y))))
        x = x + y.permute(0, 3, 1, 2)
        return self.head(self.last(x.mean([-2, -1])))


class Generator(nn.Module):
    """DCGAN's generator, with InstanceNorm in its last block."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.ConvTranspose2d(6, 8, 4, 1, 0, bias=False), nn.BatchNorm2d(8), nn.ReLU(True),
            nn.ConvTranspose2d(8, 6, 4, 2, 1, bias=False), nn.InstanceNorm2d(6, affine=True), nn.ReLU(True),
            nn.ConvTranspose2d(6, 3, 3, 2, 1, output_padding=1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)


class Discriminator(nn.Module):
    """Strided convolutions with LeakyReLU and PReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 6, 4, 2, 1), nn.LeakyReLU(0.2), nn.ReflectionPad2d(1),
            nn.Conv2d(6, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.PReLU(8),
            nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.InstanceNorm2d(8), nn.LeakyReLU(0.2),
            nn.Conv2d(8, 1, 4), nn.Flatten(), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class DiffusionBlock(nn.Module):
    """GroupNorm, SiLU and convolutions, shifted and scaled by an embedding of the time step; attention at the end."""

    def __init__(self, c: int = 8):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 3, padding=1)
        self.norm1, self.norm2 = nn.GroupNorm(2, c), nn.GroupNorm(4, c)
        self.conv1, self.conv2 = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.time = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 2 * c))
        self.qkv, self.proj = nn.Conv1d(c, 3 * c, 1), nn.Conv1d(c, c, 1)
        self.out = nn.Conv2d(c, 3, 1)
        self.register_buffer("freqs", torch.exp(torch.linspace(0.0, -4.0, 4)))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = t[:, None] * self.freqs[None]
        scale, shift = self.time(torch.cat([angles.sin(), angles.cos()], -1))[:, :, None, None].chunk(2, 1)
        x = self.stem(x)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.norm2(h) * (1 + scale) + shift
        x = x + self.conv2(F.silu(h))
        tokens = x.flatten(2)
        q, k, v = self.qkv(tokens).chunk(3, 1)
        weights = torch.softmax(torch.einsum("bct,bcs->bts", q, k) * q.shape[1] ** -0.5, -1)
        tokens = tokens + self.proj(torch.einsum("bts,bcs->bct", weights, v))
        return self.out(tokens.reshape_as(x))


class VisionTransformer(nn.Module):
    """Patches by convolution, an expanded class token, positions, pre-norm encoder layers."""

    def __init__(self, d: int = 16):
        super().__init__()
        self.patch = nn.Conv2d(3, d, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, d) * 0.5)
        self.position = nn.Parameter(torch.randn(1, 17, d) * 0.1)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(d, 4, 32, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(2)
        )
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


class VAE(nn.Module):
    """Encoder, a sample by the reparametrization trick, decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, 16), nn.ELU(), nn.Linear(16, 8))
        self.decoder = nn.Sequential(nn.Linear(4, 16), nn.Softplus(), nn.Linear(16, 12), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, -1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.decoder(z), mean, log_variance


class Assorted(nn.Module):
    """What else vision models use: grouped transposed and 3-d convolutions, pixel shuffle, grid sampling, bicubic, …"""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 3, padding=1, padding_mode="circular", groups=2)
        self.up = nn.ConvTranspose2d(4, 4, 3, 2, 1, 1, groups=2)
        self.deep = nn.Conv3d(1, 2, 2)
        self.down = nn.Conv2d(6, 4, 2)
        self.shift = nn.Parameter(torch.randn(2, 3) * 0.1)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.pixel_shuffle(F.mish(self.conv(x)), 2)
        h = torch.cat([h, F.interpolate(x, scale_factor=2.0, mode="bicubic", align_corners=False)], 1)
        h = F.celu(self.up(F.max_pool2d(h, 2, ceil_mode=True)))
        grid = F.affine_grid(self.shift.expand(x.shape[0], -1, -1) + torch.eye(2, 3), list(h.shape))
        h = F.grid_sample(h, grid, align_corners=False) + h
        d = self.deep(h[:, None])
        h = self.down(d.flatten(1, 2)) * torch.sigmoid(h.var((2, 3), keepdim=True))
        h = F.normalize(F.lp_pool2d(F.relu(h) + 0.1, 2, 2), dim=1)
        h = torch.cat([h.amax((2, 3)), h.amin((2, 3)), h.mean((2, 3)), h.sum(3).flatten(1, -1)[:, :4]], 1)
        return torch.logsumexp(torch.stack([self.head(h), self.head(h.flip(1)).clamp(-0.5, 0.5)], -1), -1)
