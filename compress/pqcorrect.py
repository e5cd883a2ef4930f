"""Error correction: codewords and indices that keep a layer's responses rather than its weights (Wu et al. 2016, section 3.3).

Block coordinate descent over the subspaces. With the others fixed, every output takes the codeword that leaves the
smallest response error at one kernel position after the other; then all codewords of the subspace move together to
their least-squares optimum. No step raises the error.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from .responses import Responses

TOLERANCE = 1e-4  # relative gain of a sweep below which it is the last


@dataclass
class Fit:
    """A layer's codewords (M, K, C), indices (M, O, P), and the relative response error before each sweep and at the end."""

    codebook: Tensor
    indices: Tensor
    errors: list[float]


def correct(responses: Responses, codebook: Tensor, indices: Tensor, *, sweeps: int, damping: float = 1e-3) -> Fit:
    """Return better codewords and indices for ``responses``, starting from (M, K, C) and (M, O, P).

    ``damping`` holds the weight near the original one where few inputs ever point, in shares of the mean input energy.
    """
    state = _State(responses, codebook.float().clone(), indices.long().clone(), damping)
    errors = [state.error()]
    for _ in range(sweeps):
        for subspace in range(len(codebook)):
            state.assign(subspace)
            state.move(subspace)
        errors.append(state.error())
        if errors[-2] - errors[-1] <= TOLERANCE * errors[-2]:
            break
    return Fit(state.codebook, state.indices, errors)


class _State:
    """Inputs, residuals and the distance from the original weight, group by group."""

    def __init__(self, responses: Responses, codebook: Tensor, indices: Tensor, damping: float) -> None:
        self.codebook, self.indices = codebook, indices
        subspaces, _, width = codebook.shape
        self.width, self.positions = width, indices.shape[2]
        self.groups = responses.groups
        self.outputs = indices.shape[1] // len(self.groups)
        self.inputs = [pad(group.inputs, (0, subspaces * width - group.inputs.shape[2])) for group in self.groups]
        energy = sum(float(x.square().sum()) / x[0].numel() for x in self.inputs) / len(self.inputs)
        self.damping = damping * max(energy, 1e-30)
        self.original = [pad(group.weight, (0, subspaces * width - group.weight.shape[2])) for group in self.groups]
        self.scale = sum(float(group.targets.double().square().sum()) for group in self.groups)
        self.residuals: list[Tensor] = []
        self.refresh()

    def refresh(self) -> None:
        """Compute the residuals anew, so that rounding does not add up."""
        self.residuals = []
        for index, group in enumerate(self.groups):
            weight = self.weight(index)  # (O, P, M C)
            self.residuals.append(group.targets - self.inputs[index].flatten(1) @ weight.flatten(1).T)

    def weight(self, group: int) -> Tensor:
        """Return the weight (O, P, M C) of a group."""
        own = self.indices[:, group * self.outputs : (group + 1) * self.outputs]
        starts = torch.arange(len(own)).view(-1, 1, 1) * self.codebook.shape[1]
        parts = self.codebook.view(-1, self.width)[own + starts]  # (M, O, P, C)
        return parts.permute(1, 2, 0, 3).flatten(2)

    def error(self) -> float:
        """Return what the descent lowers, over the energy of the responses."""
        self.refresh()
        total = sum(float(residual.double().square().sum()) for residual in self.residuals)
        for index, original in enumerate(self.original):
            total += self.damping * float((original - self.weight(index)).double().square().sum())
        return total / max(self.scale, 1e-30)

    def assign(self, subspace: int) -> None:
        """Give every output its best codeword, one kernel position after the other."""
        columns = slice(subspace * self.width, (subspace + 1) * self.width)
        words = self.codebook[subspace]  # (K, C)
        for index, inputs in enumerate(self.inputs):
            rows = slice(index * self.outputs, (index + 1) * self.outputs)
            residual, original = self.residuals[index], self.original[index]
            for position in range(self.positions):
                x = inputs[:, position, columns]
                own = self.indices[subspace, rows, position]
                gram = x.T @ x
                gram.diagonal().add_(self.damping)
                away = original[:, position, columns] - words[own]
                wanted = x.T @ residual + gram @ words[own].T + self.damping * away.T  # (C, O)
                cost = ((words @ gram) * words).sum(1, keepdim=True) - 2 * words @ wanted  # (K, O)
                lowest, best = cost.min(0)
                best = torch.where(lowest < cost.gather(0, own[None])[0], best, own)
                residual -= x @ (words[best] - words[own]).T
                self.indices[subspace, rows, position] = best

    def move(self, subspace: int) -> None:
        """Move all codewords of a subspace to their joint optimum."""
        columns = slice(subspace * self.width, (subspace + 1) * self.width)
        entries, width = self.codebook.shape[1:]
        pull = torch.zeros(entries, width, dtype=torch.float64)
        pairs = (entries,) if self.positions == 1 else (entries, entries)
        hessian = torch.zeros(*pairs, width, width, dtype=torch.float64)
        for index, inputs in enumerate(self.inputs):
            own = self.indices[subspace, index * self.outputs : (index + 1) * self.outputs]  # (O, P)
            x = inputs[:, :, columns]
            for position in range(self.positions):
                away = self.original[index][:, position, columns] - self.codebook[subspace, own[:, position]]
                wanted = (x[:, position].T @ self.residuals[index]).T + self.damping * away  # (O, C)
                pull.index_add_(0, own[:, position], wanted.double())
            _add_hessian(hessian, x.double(), own, self.damping)
        step = _solved(hessian, pull).to(self.codebook.dtype)
        self.codebook[subspace] += step
        for index, inputs in enumerate(self.inputs):
            own = self.indices[subspace, index * self.outputs : (index + 1) * self.outputs]
            change = step[own]  # (O, P, C)
            self.residuals[index] -= inputs[:, :, columns].flatten(1) @ change.flatten(1).T


def _add_hessian(hessian: Tensor, inputs: Tensor, own: Tensor, damping: float) -> None:
    """Add the normal equations of codewords for ``inputs`` (R, P, C) and indices (O, P).

    They are (K, K, C, C): two codewords meet where one output has both, at two kernel positions. With one position
    they never do, and only the diagonal (K, C, C) is there.
    """
    entries, positions = len(hessian), own.shape[1]
    grams = torch.einsum("rpc,rqd->pqcd", inputs, inputs)
    grams.diagonal().diagonal().add_(damping)
    if positions == 1:
        hessian += torch.bincount(own[:, 0], minlength=entries).double()[:, None, None] * grams[0, 0]
        return
    flat = hessian.view(-1, *hessian.shape[2:])
    for first in range(positions):
        for second in range(positions):
            pairs = torch.bincount(own[:, first] * entries + own[:, second], minlength=entries**2)
            present = pairs.nonzero().view(-1)
            flat.index_add_(0, present, pairs[present, None, None].double() * grams[first, second])


def _solved(hessian: Tensor, pull: Tensor) -> Tensor:
    """Return the step (K, C) to the optimum; codewords that nobody uses do not move."""
    entries, width = pull.shape
    if hessian.ndim == 3:
        weight = hessian.diagonal(dim1=1, dim2=2).mean(1) + 1e-30
        blocks = hessian + 1e-9 * weight[:, None, None] * torch.eye(width, dtype=torch.float64)
        return torch.linalg.solve(blocks, pull[..., None])[..., 0]
    matrix = hessian.permute(0, 2, 1, 3).reshape(entries * width, -1)
    matrix.diagonal().add_(1e-9 * matrix.diagonal().mean() + 1e-30)
    return torch.linalg.solve(matrix, pull.view(-1)).view(entries, width)
