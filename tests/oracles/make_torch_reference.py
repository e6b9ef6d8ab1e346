"""Make `torch_mlp.npz`, reference values of the first paper's network from PyTorch. Run by hand with PyTorch installed:

    python tests/reference/make_torch_reference.py

Everything is computed in PyTorch from the definitions: the network, its training, the influence of its units, the
greedy pruning order, running statistics, gradients in training mode, and the plateau schedule.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

HIDDEN, WIDTH, FEATURES, ROWS, STEPS = 11, 32, 12, 400, 120


class Net(nn.Module):
    """Eleven blocks of linear map, ReLU, dropout and batch normalisation, then a logit (Table 2 of the paper)."""

    def __init__(self, p=0.05):
        super().__init__()
        self.fc0, self.bn0 = nn.Linear(FEATURES, WIDTH), nn.BatchNorm1d(WIDTH)
        self.fcs = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(HIDDEN - 1))
        self.bns = nn.ModuleList(nn.BatchNorm1d(WIDTH) for _ in range(HIDDEN - 1))
        self.out, self.drop = nn.Linear(WIDTH, 1), nn.Dropout(p)

    def forward(self, x, shifts=None):
        for i, (fc, bn) in enumerate(zip([self.fc0, *self.fcs], [self.bn0, *self.bns], strict=True)):
            h = fc(x)
            if shifts is not None:
                h = h + shifts[i]
            x = bn(self.drop(torch.relu(h)))
        return self.out(x)[:, 0]


def proxy(name, logits, y, a):
    """Compute Eq. 1 or 2."""
    f, rows = torch.sigmoid(logits), torch.ones_like(y) if name == "spd" else y
    return f[(rows == 1) & (a == 0)].mean() - f[(rows == 1) & (a == 1)].mean()


def influence(model, name, x, y, a):
    """Sum over rows the derivatives with respect to each unit's pre-activation, which is shifted separately per row."""
    shifts = [torch.zeros(len(x), WIDTH, dtype=x.dtype, requires_grad=True) for _ in range(HIDDEN)]
    grads = torch.autograd.grad(proxy(name, model(x, shifts), y, a), shifts)
    return torch.stack([grad.sum(0) for grad in grads]).detach()


def bias_sign(model, x, y, a):
    """Return the sign of the SPD of decisions at the first of 101 thresholds of highest balanced accuracy."""
    f = torch.sigmoid(model(x)).detach()
    accuracy = [((f[y == 1] > t / 100).double().mean() + (f[y == 0] <= t / 100).double().mean()) for t in range(101)]
    decisions = (f > int(np.argmax(accuracy)) / 100).double()
    return float(torch.sign(decisions[a == 0].mean() - decisions[a == 1].mean()))


def greedy(model, x, y, a):
    """Prune one unit per step with recomputed influence; return the order and the smallest lead over the next unit."""
    sign, cut, leads = bias_sign(model, x, y, a), [], []
    layers = [model.fc0, *model.fcs]
    for _ in range(STEPS):
        scores = sign * influence(model, "spd", x, y, a).reshape(-1)
        scores[cut] = -torch.inf
        first, second = torch.topk(scores, 2).values
        leads.append(float((first - second) / scores[torch.isfinite(scores)].abs().max()))
        unit = int(torch.argmax(scores))
        cut.append(unit)
        with torch.no_grad():
            layers[unit // WIDTH].weight[unit % WIDTH] = 0
            layers[unit // WIDTH].bias[unit % WIDTH] = 0
    return np.array(cut), min(leads)


def main():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    a = rng.random(ROWS) < 0.4
    x = rng.normal(size=(ROWS, FEATURES)) + 0.6 * a[:, None] * np.linspace(-1, 1, FEATURES)
    y = rng.random(ROWS) < 1 / (1 + np.exp(-(x[:, 0] - x[:, -1] + 0.5 * x[:, 3])))
    x, y, a = torch.tensor(x, dtype=torch.float32), torch.tensor(y).float(), torch.tensor(a).float()

    model = Net()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(12):
        for rows in torch.randperm(ROWS).split(64):
            optimiser.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(model(x[rows]), y[rows]).backward()
            optimiser.step()
    model.eval()
    saved = {f"state/{name}": value.numpy().copy() for name, value in model.state_dict().items()}
    saved |= {"x": x.numpy(), "y": y.numpy(), "a": a.numpy(), "scores": torch.sigmoid(model(x)).detach().numpy()}
    for name in ("spd", "eod"):
        saved[f"influence/{name}"] = influence(model, name, x, y, a).numpy()

    training = Net(p=0.0)
    training.load_state_dict(model.state_dict())
    training.train()
    batches = [x[:64], x[64:128], x[128:256]]
    value = proxy("spd", training(batches[0]), y[:64], a[:64])
    for name, grad in zip(
        dict(training.named_parameters()), torch.autograd.grad(value, training.parameters()), strict=True
    ):
        saved[f"gradient/{name}"] = grad.numpy()
    for batch in batches[1:]:
        training(batch)
    saved |= {f"after/{name}": v.numpy() for name, v in training.state_dict().items() if "running" in name}

    saved["order"], lead = greedy(model.double(), x.double(), y.double(), a.double())
    print("least lead of a cut unit over the next, of the largest influence:", lead)

    flat = [1.0] * 40
    falling = [1.0 * 0.95**i for i in range(40)]
    creeping = [1.0 - 5e-5 * i for i in range(40)]
    noisy = list(np.abs(rng.normal(1, 0.2, 60)))
    for name, losses in {"flat": flat, "falling": falling, "creeping": creeping, "noisy": noisy}.items():
        optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, threshold=1e-4)
        rates = []
        for loss in losses:
            plateau.step(loss)
            rates.append(optimiser.param_groups[0]["lr"])
        saved[f"plateau/{name}/losses"], saved[f"plateau/{name}/rates"] = np.array(losses), np.array(rates)
    np.savez_compressed(Path(__file__).with_name("torch_mlp.npz"), **saved)


if __name__ == "__main__":
    main()
