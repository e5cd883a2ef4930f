"""Error correction: codewords and indices that preserve the responses of a layer (Wu et al. 2016, arXiv:1512.06473, section 3.3).

Block coordinate descent over the subspaces. With the others fixed, every output takes the codeword with the least
response error, one kernel position after the other; then all codewords of the subspace move jointly to their
least-squares optimum. No step increases the objective, which is the error, or with a price on bits the sum of error and
price. Subspaces are processed in blocks: within a block, only the products of its inputs with each other and with the
residuals are needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from ...core.errors import InputError
from ..observe.layer_io import LayerSamples
from . import pq_rate

TOLERANCE = 1e-3  # relative gain of a sweep below which it is the last
COLUMNS = 64  # inputs of a block
JITTERS = (
    1e-9,
    1e-8,
    1e-7,
    1e-6,
    1e-5,
    1e-4,
    1e-3,
)  # shares of the mean square, added until rounding no longer matters
DECODED = 1 << 20  # weights decoded at once, and residuals squared


@dataclass
class CorrectedCodebook:
    """Codewords (M, K, C), indices (M, O, P), and the relative response error before each sweep and at the end."""

    codebook: Tensor
    indices: Tensor
    errors: list[float]


def correct(
    responses: LayerSamples, codebook: Tensor, indices: Tensor, *, sweeps: int, damping: float = 1e-3, lam: float = 0.0
) -> CorrectedCodebook:
    """Return improved codewords and indices for ``responses``, starting from (M, K, C) and (M, O, P).

    ``damping`` regularises towards the original weight where inputs are rare, in units of the mean input energy.
    ``lam`` is the price of one bit of an index, in units of the responses' energy per weight.
    """
    state = _State(responses, codebook.float().clone(), indices.clone(), damping, lam)
    errors = [state.error()]
    costs = [errors[0] + state.price()]
    for _ in range(sweeps):
        state.sweep()
        errors.append(state.error())
        costs.append(errors[-1] + state.price())
        if costs[-2] - costs[-1] <= TOLERANCE * costs[-2]:
            break
    return CorrectedCodebook(state.codebook, state.indices, errors)


class _State:
    """Inputs (R, P, M C) and residuals (R, O), group by group."""

    def __init__(self, responses: LayerSamples, codebook: Tensor, indices: Tensor, damping: float, lam: float) -> None:
        self.codebook, self.indices, self.lam = codebook, indices, lam
        subspaces, _, self.width = codebook.shape
        self.groups = responses.groups
        self.outputs = indices.shape[1] // len(self.groups)
        padding = (0, subspaces * self.width - responses.groups[0].inputs.shape[2])
        self.inputs = [_padded(group.inputs, padding) for group in self.groups]
        self.columns = subspaces * self.width
        energy = sum(float(x.square().sum()) / x[0].numel() for x in self.inputs) / len(self.inputs)
        self.damping = damping * max(energy, 1e-30)
        self.scale = sum(_squares(group.targets) for group in self.groups)
        self.residuals: list[Tensor] = []
        self.weights = sum(group.weight.numel() for group in responses.groups)
        self.bits = torch.zeros(codebook.shape[:2])  # (M, K), what an index costs

    def price(self) -> float:
        """Update the bits of every codeword; return the cost of all indices, as a share of the responses' energy."""
        if not self.lam:
            return 0.0
        counts = pq_rate.uses(self.indices, self.codebook.shape[1])
        ordered, ranks = counts.sort(dim=1, descending=True, stable=True)
        self.bits = torch.empty_like(self.bits).scatter_(1, ranks, pq_rate.lengths(ordered).expand_as(ordered))
        return self.lam * float((counts * self.bits).sum(dtype=torch.float64)) / self.weights

    def rows(self, group: int) -> slice:
        """Return the outputs of a group."""
        return slice(group * self.outputs, (group + 1) * self.outputs)

    def weight(self, group: int, subspaces: slice, outputs: slice = slice(None)) -> Tensor:
        """Return the weight (O, P, B C) of some subspaces and outputs of a group."""
        own = self.indices[subspaces, self.rows(group)][:, outputs]
        starts = torch.arange(len(own)).view(-1, 1, 1) * self.codebook.shape[1]
        parts = self.codebook[subspaces].reshape(-1, self.width)[own.long() + starts]  # (B, O, P, C)
        return parts.permute(1, 2, 0, 3).flatten(2)

    def error(self) -> float:
        """Recompute the residuals, so that rounding does not accumulate; return the objective, as a share."""
        total, self.residuals = 0.0, []
        for index, group in enumerate(self.groups):
            residuals, inputs = torch.empty_like(group.targets), self.inputs[index].flatten(1)
            step = max(1, DECODED // inputs.shape[1])
            for start in range(0, self.outputs, step):
                rows = slice(start, start + step)
                weight = self.weight(index, slice(None), rows)
                residuals[:, rows] = group.targets[:, rows] - inputs @ weight.flatten(1).T
                total += self.damping * float(
                    (group.original(rows, slice(0, self.columns)) - weight).double().square().sum()
                )
            self.residuals.append(residuals)
            total += _squares(residuals)
        return total / max(self.scale, 1e-30)

    def sweep(self) -> None:
        """Update every subspace once."""
        positions = self.indices.shape[2]
        step = max(1, COLUMNS // (positions * self.width))
        for start in range(0, len(self.codebook), step):
            subspaces = slice(start, min(start + step, len(self.codebook)))
            columns = slice(subspaces.start * self.width, subspaces.stop * self.width)
            inputs = [x[:, :, columns].flatten(1) for x in self.inputs]
            before = [self.weight(index, subspaces) for index in range(len(self.groups))]
            parts = []
            for index, x in enumerate(inputs):
                gram = x.T @ x
                gram.diagonal().add_(self.damping)
                away = (self.groups[index].original(slice(None), columns) - before[index]).flatten(1)
                pull = x.T @ self.residuals[index] + self.damping * away.T
                parts.append(_Part(gram, pull, self.indices[subspaces, self.rows(index)]))
            prices = self.lam * self.scale / self.weights * self.bits[subspaces]
            for at in range(subspaces.stop - subspaces.start):
                words = self.codebook[start + at]
                for part in parts:
                    part.assign(at, words, prices[at])
                _move(parts, at, words)
            for index in range(len(parts)):
                change = self.weight(index, subspaces) - before[index]
                # in place: products of a sweep, each just small enough for the heap, made it grow by any number of them
                self.residuals[index].addmm_(inputs[index], change.flatten(1).T, alpha=-1)


def _squares(values: Tensor) -> float:
    """Return the sum of squares of ``values`` (R, O), in double precision, computed in parts."""
    step = max(1, DECODED // values.shape[1])
    return sum(float(part.double().square().sum()) for part in values.split(step))


def _padded(values: Tensor, padding: tuple[int, int]) -> Tensor:
    return pad(values, padding) if padding[1] else values


class _Part:
    """One group's share of a block: damped products (P B C, P B C), the error's negative half gradient (P B C, O)."""

    def __init__(self, gram: Tensor, pull: Tensor, indices: Tensor) -> None:
        self.gram, self.pull, self.indices = gram, pull, indices  # indices (B, O, P): a view that is written to
        self.positions = indices.shape[2]

    def columns(self, subspace: int, width: int) -> Tensor:
        """Return the positions (P, C) of the inputs of a subspace."""
        starts = torch.arange(self.positions)[:, None] * (len(self.gram) // self.positions)
        return starts + subspace * width + torch.arange(width)

    def assign(self, subspace: int, words: Tensor, prices: Tensor) -> None:
        """Assign the best codeword to every output at ``prices`` (K,), one kernel position after the other."""
        for position, columns in enumerate(self.columns(subspace, words.shape[1])):
            own = self.indices[subspace, :, position].long()
            gram = self.gram[columns[:, None], columns]
            wanted = self.pull[columns] + gram @ words[own].T  # (C, O)
            fixed = ((words @ gram) * words).sum(1) + prices
            cost = fixed[:, None] - 2 * words @ wanted  # (K, O)
            lowest, best = cost.min(0)
            best = torch.where(lowest < cost.gather(0, own[None])[0], best, own)
            self.change(columns, (words[best] - words[own]).T)
            self.indices[subspace, :, position] = best

    def change(self, columns: Tensor, weight: Tensor) -> None:
        """Update for a change of the weight at ``columns`` by ``weight`` (columns, O)."""
        self.pull -= self.gram[:, columns] @ weight


def _move(parts: list[_Part], subspace: int, words: Tensor) -> None:
    """Move all codewords (K, C) of a subspace to their joint optimum, in place."""
    entries, width = words.shape
    positions = parts[0].positions
    pull = torch.zeros(entries, width, dtype=torch.float64)
    pairs = (entries,) if positions == 1 else (entries, entries)
    hessian = torch.zeros(*pairs, width, width, dtype=torch.float64)
    for part in parts:
        columns, own = part.columns(subspace, width), part.indices[subspace].long()  # (P, C), (O, P)
        wanted = part.pull[columns].permute(2, 0, 1).reshape(-1, width)  # (O P, C)
        pull.index_add_(0, own.reshape(-1), wanted.double())
        flat = columns.reshape(-1)
        grams = part.gram[flat[:, None], flat].double().view(positions, width, positions, width)
        _add_hessian(hessian, grams.transpose(1, 2), own)
    step = _solved(hessian, pull).to(words.dtype)
    words += step
    for part in parts:
        change = step[part.indices[subspace].long()]  # (O, P, C)
        part.change(part.columns(subspace, width).reshape(-1), change.flatten(1).T)


def _add_hessian(hessian: Tensor, grams: Tensor, own: Tensor) -> None:
    """Add the normal equations of codewords for products (P, P, C, C) of inputs and indices (O, P).

    They are (K, K, C, C): two codewords interact if one output uses both, at two kernel positions. With a single
    position they never do, and only the diagonal (K, C, C) is stored.
    """
    entries, positions = len(hessian), own.shape[1]
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
    """Return the step (K, C) to the optimum; unused codewords do not move."""
    entries, width = pull.shape
    if hessian.ndim == 3:
        weight = hessian.diagonal(dim1=1, dim2=2).mean(1) + 1e-30
        blocks = hessian + 1e-9 * weight[:, None, None] * torch.eye(width, dtype=torch.float64)
        return torch.linalg.solve(blocks, pull[..., None])[..., 0]
    matrix = hessian.permute(0, 2, 1, 3).reshape(entries * width, -1)
    size = float(matrix.diagonal().mean())
    for jitter in JITTERS:
        matrix.diagonal().add_(jitter * size + 1e-30)
        lower, fault = torch.linalg.cholesky_ex(matrix)
        if not fault:
            return torch.cholesky_solve(pull.view(-1, 1), lower).view(entries, width)
    raise InputError("pq: the products of a layer's inputs are not finite, or too large to fit codewords to them")
