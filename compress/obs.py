"""Optimal brain surgeon: weights are removed or rounded one at a time, and the remaining ones compensate (OBC, arXiv:2208.11580).

The error of a layer's outputs is 1/2 sum over rows of (w - w0) H (w - w0)' with H = 2 X X', the same for all rows. If
weight p changes by -r, the best update of the other weights is delta = -r / [H^-1]_pp H^-1[:, p] (Hassibi & Stork
1993), and the error grows by r^2 / (2 [H^-1]_pp). ``*_exact`` choose the cheapest weight of each row in every step
(OBC, Frantar & Alistarh 2022, arXiv:2208.11580; O(d^3) per row). ``*_blocked`` process the columns in one order for all
rows (SparseGPT, arXiv:2301.00774; GPTQ, arXiv:2210.17323; O(d^3) per layer). Pure functions in double precision on W
(rows, d).
"""

# ruff: noqa: N803  matrices keep the capital letters of the papers

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

Quantiser = Callable[[Tensor, Tensor], Tensor]  # (values, their row numbers) -> the nearest allowed values

CACHE = 1 << 18  # values of inverses that the exact forms work on together: what a core has near it
BATCHED = 1 << 21  # values of inverses whose rank-one updates are applied together
PENDING = 64  # rank-one updates applied to the inverses in one product: it, not memory, then takes the time
DAMP = 0.01
ROWS = 256  # rows of a weight processed at once
MOST = 2048  # inputs of a row up to which passes invert its Hessian; on AlexNet more take five times the model's memory


def hessian(inputs: Tensor) -> Tensor:
    """Return 2 X'X (d, d) of inputs (N, d), one row a sample."""
    return 2 * inputs.double().T @ inputs.double()


def damped(H: Tensor, damp: float = DAMP) -> Tensor:
    """Return H plus ``damp`` times its mean diagonal on the diagonal, with ones for inputs that are always zero."""
    result = H.double().clone()
    diagonal = result.diagonal()
    dead = diagonal == 0
    diagonal += damp * diagonal.mean()
    diagonal[dead] = diagonal[dead].clamp_min(1.0)
    return result


def error(W: Tensor, changed: Tensor, H: Tensor) -> Tensor:
    """Return (w - w0) H (w - w0)' / 2 of each row (rows,)."""
    delta = (changed - W).double()
    return 0.5 * torch.einsum("rd,de,re->r", delta, H.double(), delta)


@dataclass(frozen=True)
class Removals:
    """The order (rows, d) in which the weights of each row are removed, cheapest first, and the cost (rows, d) of each removal."""

    order: Tensor
    costs: Tensor

    def kept(self, keep: int, *, per_row: bool = False) -> Tensor:
        """Return the mask (rows, d) of the ``keep`` remaining weights, counted over all rows or per row.

        Rows advance by the cheapest next step. A step that is cheaper than an earlier one of its row is merged with it.
        """
        rows, size = self.order.shape
        if per_row:
            steps = torch.full((rows,), size - keep)
        else:
            rising = torch.cummax(self.costs, dim=1).values
            first = torch.argsort(rising.flatten(), stable=True)[: rows * size - keep]
            steps = torch.bincount(first // size, minlength=rows)
        return torch.empty(rows, size, dtype=torch.bool).scatter_(1, self.order, torch.arange(size) >= steps[:, None])


def removals(W: Tensor, H: Tensor) -> Removals:
    """Remove all weights of every row, always the one whose removal costs least after compensation."""
    inverse = torch.linalg.inv(H.double())
    parts = [_removals(part, inverse) for part in W.double().split(max(1, BATCHED // W.shape[1] ** 2))]
    return Removals(*(torch.cat(several) for several in zip(*parts, strict=True)))


def prune_exact(W: Tensor, H: Tensor, keep: int, *, per_row: bool = False) -> Tensor:
    """Return W with ``keep`` weights left, selected over all rows (or per row) by the cost of removing the others."""
    return best_given_mask(W, H, removals(W, H).kept(keep, per_row=per_row))


def rows_at_once(size: int) -> int:
    """Return how many rows of ``size`` weights the exact algorithms process at once."""
    return max(1, CACHE // size**2)


def quantise_exact(W: Tensor, H: Tensor, quantise: Quantiser, step: Tensor | None = None) -> Tensor:
    """Return W on the grid of the quantizer; each row rounds its cheapest weight next (OBQ).

    Weights that compensation moved off the grid by more than half of ``step`` (rows,) are rounded at once. Zeros stay
    zero.
    """
    W = W.double()
    inverse = torch.linalg.inv(H.double())
    numbers = torch.arange(len(W)).split(rows_at_once(W.shape[1]))
    return torch.cat([_rounded(W[part], inverse, quantise, part, step) for part in numbers])


def prune_blocked(W: Tensor, H: Tensor, density: float, *, block: int = 128, scope: str = "block") -> Tensor:
    """Return W with a share ``density`` of its weights left; columns are processed in order, a block at a time.

    The cost of a weight is w^2 / [U]_pp^2, where U is the upper Cholesky factor of H^-1. Costs are compared within a
    block (``scope = "block"``) or, before any compensation, within the whole layer (``"layer"``).
    """
    W = W.double().clone()
    U = _factor(H)
    diagonal = U.diagonal()
    everywhere = _lowest((W / diagonal).square(), 1 - density) if scope == "layer" else None
    for start in range(0, W.shape[1], block):
        part = slice(start, min(start + block, W.shape[1]))
        gone = torch.zeros_like(W, dtype=torch.bool)
        chosen = (
            everywhere[:, part]
            if everywhere is not None
            else _lowest((W[:, part] / diagonal[part]).square(), 1 - density)
        )
        gone[:, part] = chosen
        _sweep(W, U, part.start, part.stop, _removing(gone))
    return W


def quantise_blocked(
    W: Tensor, H: Tensor, quantise: Quantiser, *, block: int = 128, by_diagonal: bool = True, keep_zeros: bool = True
) -> Tensor:
    """Return W on the grid of the quantizer, one column after the other (GPTQ).

    ``by_diagonal`` processes the columns with the largest [H]_pp first. With ``keep_zeros``, weights that are exactly
    zero stay zero and do not compensate for others.
    """
    order = torch.argsort(H.diagonal(), descending=True, stable=True) if by_diagonal else torch.arange(len(H))
    V = W.double()[:, order].clone()
    U = _factor(H[order][:, order])
    zero = V == 0 if keep_zeros else torch.zeros_like(V, dtype=torch.bool)
    rows = torch.arange(len(V))

    def nearest(column: Tensor, at: int) -> Tensor:
        return torch.where(zero[:, at], 0.0, quantise(column, rows))

    for start in range(0, V.shape[1], block):
        _sweep(V, U, start, min(start + block, V.shape[1]), nearest)
    result = torch.empty_like(V)
    result[:, order] = V
    return result


def _removing(gone: Tensor) -> Callable[[Tensor, int], Tensor]:
    return lambda column, at: torch.where(gone[:, at], 0.0, column)


def remove_blocks(readers: Iterable[tuple[Tensor, Tensor, Tensor]], count: int) -> list[int]:
    """Return ``count`` inputs, in the order of their removal from the layers that read them, cheapest first.

    Each reader is W (rows, d), H (d, d) and the columns (n, c) of each of the n inputs. Removing block J costs 1/2
    tr(W_J [H^-1]_JJ^-1 W_J') after the other weights have been updated to compensate; they are updated before the next
    block is chosen.
    """
    states: list[tuple[Tensor, Tensor, Tensor]] = []
    gone: list[int] = []
    for W, H, columns in readers:
        lower = torch.linalg.cholesky(H.double())
        del H  # two matrices of this size at a time
        inverse = torch.cholesky_inverse(lower)
        del lower
        states.append((W.to(torch.float64, copy=True), inverse, columns))
    for _ in range(count):
        total = torch.zeros(len(states[0][2]), dtype=torch.float64)
        for state in states:
            total += _costs(*state)
        total[gone] = torch.inf
        place = int(total.argmin())
        for W, inverse, columns in states:
            J = columns[place]
            corner = torch.linalg.inv(inverse[J][:, J])
            row = corner @ inverse[J]
            W.addmm_(W[:, J], row, alpha=-1)
            inverse.addmm_(inverse[:, J], row, alpha=-1)
            inverse[J, J] = 1.0  # the block is out: nothing divides by what is left of it
        gone.append(place)
    return gone


def _costs(W: Tensor, inverse: Tensor, columns: Tensor) -> Tensor:
    """Return the cost (n,) of removing each block of ``columns`` (n, c)."""
    if columns.shape[1] == 1:
        squares = torch.zeros(W.shape[1], dtype=W.dtype)
        for part in W.split(ROWS):
            squares += part.square().sum(0)
        return 0.5 * (squares / inverse.diagonal())[columns[:, 0]]
    total = torch.zeros(len(columns), dtype=W.dtype)
    corner = torch.linalg.inv(inverse[columns[:, :, None], columns[:, None, :]])  # (n, c, c)
    for part in W.split(ROWS):
        block = part[:, columns]  # (rows, n, c)
        total += 0.5 * torch.einsum("rnc,ncd,rnd->n", block, corner, block)
    return total


def best_given_mask(W: Tensor, H: Tensor, mask: Tensor) -> Tensor:
    """Return the optimal weights under the constraint that only those in ``mask`` (rows, d) are nonzero."""
    result = torch.zeros_like(W, dtype=torch.float64)
    target = W.double() @ H.double()  # (rows, d)
    for row, kept in enumerate(mask):
        index = torch.nonzero(kept).flatten()
        if len(index):
            result[row, index] = torch.linalg.solve(H.double()[index][:, index], target[row, index])
    return result


def _removals(W: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Return the order and the costs of :class:`Removals` for rows that are processed at once.

    Rank-one updates C' C of the inverses, C (rows, updates, remaining), are applied ``PENDING`` at a time; removed
    weights are then dropped from W, the inverses and ``columns``.
    """
    rows, size = W.shape
    W, inverse = W.clone(), inverse.repeat(rows, 1, 1)
    diagonal = inverse.diagonal(dim1=1, dim2=2).clone()
    columns = torch.arange(size).repeat(rows, 1)
    costs, places = torch.empty_like(W), torch.empty_like(columns)
    number = torch.arange(rows)
    for start in range(0, size, PENDING):
        steps = min(PENDING, size - start)
        C = W.new_empty(rows, steps, W.shape[1])
        gone = torch.zeros_like(W, dtype=torch.bool)
        for step in range(steps):
            cost = W.square() / (2 * diagonal.clamp_min(1e-300))
            costs[:, start + step], place = cost.masked_fill_(gone, torch.inf).min(dim=1)
            places[:, start + step] = columns[number, place]
            column = inverse[number, place]
            if step:
                known = C[:, :step]
                column = column.unsqueeze(1).baddbmm_(known[number, :, place].unsqueeze(1), known, alpha=-1).squeeze(1)
            pivot = column[number, place].clamp_min(1e-300)
            W.addcmul_((W[number, place] / pivot)[:, None], column, value=-1)
            torch.mul(column, pivot.rsqrt()[:, None], out=C[:, step])
            diagonal.addcmul_(C[:, step], C[:, step], value=-1)
            gone[number, place] = True
        left = torch.nonzero(~gone)[:, 1].view(rows, -1)
        W, diagonal, columns = (each.gather(1, left) for each in (W, diagonal, columns))
        C = C.gather(2, left[:, None, :].expand(-1, steps, -1))
        inverse = inverse[number[:, None, None], left[:, :, None], left[:, None, :]]
        inverse.baddbmm_(C.transpose(1, 2), C, alpha=-1)
    return places, costs


def _rounded(W: Tensor, inverse: Tensor, quantise: Quantiser, names: Tensor, step: Tensor | None) -> Tensor:
    rows, size = W.shape
    W, inverse = W.clone(), inverse.repeat(rows, 1, 1)
    alive = W != 0
    result = torch.zeros_like(W)
    number = torch.arange(rows)
    for place in range(size):  # weights that are zero for good take no part
        zero = ~alive[:, place]
        if zero.any():
            _settle(W, inverse, number, torch.full((rows,), place), torch.zeros(rows, dtype=W.dtype), zero)
    for _ in range(size):
        going = alive.any(dim=1)
        if not going.any():
            break
        missing = W - quantise(W, names[:, None].expand_as(W))
        diagonal = inverse.diagonal(dim1=1, dim2=2).clamp_min(1e-300)
        cost = torch.where(alive, missing.square() / diagonal, torch.inf)
        if step is not None:
            far = alive & (missing.abs() > 0.5 * step[names][:, None] * (1 + 1e-9))
            cost = torch.where(far, -missing.abs(), cost)
        place = cost.argmin(dim=1)
        change = missing[number, place]
        value = W[number, place] - change
        result[number, place] = torch.where(going, value, result[number, place])
        _settle(W, inverse, number, place, change, going)
        alive[number, place] &= ~going
    return result


def _settle(
    W: Tensor, inverse: Tensor, number: Tensor, place: Tensor, change: Tensor, going: Tensor | None = None
) -> None:
    """Subtract ``change`` (rows,) from the weight at ``place``, update the others, and remove it from the inverse, in place.

    Rows that are not ``going`` stay unchanged.
    """
    column = inverse[number, :, place]  # (rows, d)
    share = 1 / column[number, place].clamp_min(1e-300)
    if going is not None:
        share = torch.where(going, share, 0.0)
    scaled = share[:, None] * column
    W.addcmul_(change[:, None], scaled, value=-1)
    inverse.baddbmm_(scaled[:, :, None], column[:, None, :], alpha=-1)


def _sweep(W: Tensor, U: Tensor, start: int, end: int, settle: Callable[[Tensor, int], Tensor]) -> None:
    """Process the columns ``start`` to ``end`` one by one; later columns compensate, those after the block at its end."""
    errors = torch.empty(len(W), end - start, dtype=W.dtype)
    for at in range(start, end):
        value = settle(W[:, at], at)
        errors[:, at - start] = (W[:, at] - value) / U[at, at]
        W[:, at + 1 : end] -= errors[:, at - start, None] * U[at, at + 1 : end]
        W[:, at] = value
    W[:, end:] -= errors @ U[start:end, end:]


def _factor(H: Tensor) -> Tensor:
    """Return U, upper triangular, with H^-1 = U' U."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(H.double()))
    return torch.linalg.cholesky(inverse, upper=True)


def _lowest(costs: Tensor, share: float) -> Tensor:
    """Return a mask of exactly the share ``share`` of ``costs`` that is lowest."""
    count = round(share * costs.numel())
    mask = torch.zeros(costs.numel(), dtype=torch.bool)
    mask[torch.argsort(costs.flatten(), stable=True)[:count]] = True
    return mask.view_as(costs)
