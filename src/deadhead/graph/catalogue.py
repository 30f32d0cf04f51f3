"""The catalogue of ATen ops: what each op is, said once. Whatever has to know ops looks their facts up here.

Rules that are functions (of labels, relevance, second derivatives, Lipschitz bounds) are registered where they stand;
`lab/ops_table.py` lays the facts and the rules out as one table, which shows what an op lacks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import fx

from deadhead.graph.nodes import op_name


@dataclass(frozen=True)
class Op:
    """The facts about one op. What is None, empty or false does not hold of it, or is not known.

    Args:
        name: as `nodes.op_name` gives it; in-place forms and all overloads are meant.
        family: what kind of op it is, such as "product"; every op has one.
        relevance: the kind of rule that relevance gives it (`relevance/kinds.py`), where it is no sequence of steps.
        diagonal: how second derivatives go back through it: "copied" (every coefficient is 0 or 1), "gathered" (affine
            in each entry, which goes to one place), "slid" (linear along each axis in space), "contracted" (a product
            with parameters) or "pointwise". Elementwise ops that torch tags as such need not say so.
        lipschitz: the largest slope, rounded up, of a function without parameters; 1 for what only moves entries.
        operands: the positions of the arguments that are multiplied by each other.
        bias: the position of the argument that is added to their product.
        matrix: whether it is a product of rows with one matrix.
        turned: whether that matrix is (outputs, inputs).
        options: the names of a convolution's arguments behind its map, weight and bias.
        groups: the position of the number of groups.
        centre: the position of the mean that a normalisation with fixed statistics subtracts.
        normalises: whether it takes statistics over an axis, and can take them over a part of it.
        sizes: the position of the sizes, or numbers of copies, of what it gives.
        filled: whether what it gives is the same all along an axis that these sizes make.
        rewritten: how a cut rewrites its numbers: all "sizes", those of an "unflatten", the widths of "parts" or the
            ends of a "range".
        shares: how often what it gives shares the memory of its input, though its schema does not say so: "usually"
            or "sometimes".
        replay: "skip" where a replay leaves it out, "identity" where a replay hands on what it reads.
        retraced: whether it may be there in one trace and not in another of the same program.
        indices: "same" where indices come out as they went in, "moved" where each still points to what it pointed to,
            "read" where the op's label rule knows what they point to.
        discrete: whether it gives indices, counts or truth values, which have no derivative.
        slopes: what the slopes of an elementwise function do: "homogeneous" where f(a x) = a f(x) for positive a,
            "kinked" where they jump beside zero, "singular" where they grow without bound.
        sums: whether it is elementwise and linear, piece by piece, in several activations together.
        carries: whether what weighs something still does so behind it: attention's weights after a reshape.
        weighs: whether one operand weighs the other.
        aligned: whether constant operands are laid out as what it gives.
        before_loss: whether it belongs to the loss where only an output reads it.
    """

    name: str
    family: str
    relevance: str | None = None
    diagonal: str | None = None
    lipschitz: float | None = None
    operands: tuple[int, ...] = ()
    bias: int | None = None
    matrix: bool = False
    turned: bool = False
    options: tuple[str, ...] = ()
    groups: int | None = None
    centre: int | None = None
    normalises: bool = False
    sizes: int | None = None
    filled: bool = False
    rewritten: str | None = None
    shares: str | None = None
    replay: str | None = None
    retraced: bool = False
    indices: str | None = None
    discrete: bool = False
    slopes: str | None = None
    sums: bool = False
    carries: bool = False
    weighs: bool = False
    aligned: bool = False
    before_loss: bool = False


def _of(names: str, **facts: Any) -> Callable[[Op], list[Op]]:
    """Ops of one family, of which the same facts hold beside or in place of the family's."""
    return lambda base: [replace(base, name=name, **facts) for name in names.split()]


def _family(base: Op, *parts: Callable[[Op], list[Op]]) -> list[Op]:
    """The ops of a family, from the facts that hold of all unless a part says otherwise."""
    return [op for part in parts for op in part(base)]


# fmt: off
_ELEMENTWISE = [
    *_family(
        Op("", "nonlinearity", relevance="nonlinearity"),
        _of("abs relu", lipschitz=1.0, slopes="homogeneous"),
        _of("leaky_relu rrelu", slopes="homogeneous"),
        _of("prelu", diagonal="pointwise", slopes="homogeneous"),
        _of("_prelu_kernel", relevance=None, diagonal="pointwise"),
        _of("clamp clamp_max clamp_min hardtanh relu6 softshrink", lipschitz=1.0, slopes="kinked"),
        _of("hardsigmoid", lipschitz=0.1667, slopes="kinked"),
        _of("hardswish", lipschitz=1.5, slopes="kinked"),
        _of("hardshrink nan_to_num threshold", slopes="kinked"),
        _of("acos asin log log10 log1p log2 pow sqrt tan", slopes="singular"),
        _of("celu cosh elu exp expm1 sinh softplus softsign square"),
        _of("atan cos log_sigmoid sin tanh tanhshrink", lipschitz=1.0),
        _of("erf", lipschitz=2 / math.sqrt(math.pi)),
        _of("gelu", lipschitz=1.13),
        _of("mish", lipschitz=1.09),
        _of("selu", lipschitz=1.7581),
        _of("sigmoid", lipschitz=0.25),
        _of("silu", lipschitz=1.1),
        _of("float_power", relevance=None),
    ),
    *_family(
        Op("", "reciprocal", relevance="normalisation", slopes="singular"),
        _of("reciprocal rsqrt"),
    ),
    *_family(
        Op("", "elementwise linear"),
        _of("add sub rsub copy", sums=True),
        _of("subtract _conj lerp"),
        _of("neg", relevance="sum", lipschitz=1.0),
    ),
    *_family(
        Op("", "elementwise product"),
        _of("mul", operands=(0, 1), weighs=True),
        _of("multiply", operands=(0, 1)),
        _of("div", carries=True, weighs=True),
        _of("divide true_divide addcdiv glu"),
        _of("addcmul", operands=(1, 2)),
    ),
    *_family(
        Op("", "choice", relevance="maximum"),
        _of("where", relevance="movement", sums=True, aligned=True),
        _of("masked_fill", relevance=None, carries=True),
        _of("maximum minimum", lipschitz=1.0, sums=True, aligned=True),
        _of("fmax fmin", sums=True, aligned=True),
    ),
]

_PRODUCTS = [
    *_family(
        Op("", "product", diagonal="contracted", operands=(0, 1)),
        _of("linear", bias=2, matrix=True, turned=True),
        _of("matmul mm", matrix=True, weighs=True),
        _of("bmm", weighs=True),
        _of("mv dot vdot linalg_matmul"),
        _of("addmm", operands=(1, 2), bias=0, matrix=True),
        _of("baddbmm addmv", operands=(1, 2), bias=0),
        _of("einsum", operands=(), weighs=True),
    ),
    *_family(
        Op("", "summed product"),
        _of("addbmm"),
    ),
    *_family(
        Op("", "grouped product", operands=(0, 1)),
        _of("_grouped_mm transformers::grouped_mm_fallback"),
    ),
    *_family(
        Op("", "convolution", diagonal="contracted", operands=(0, 1), bias=2,
           options=("stride", "padding", "dilation", "groups"), groups=6),
        _of("conv1d conv2d conv3d"),
    ),
    *_family(
        Op("", "transposed convolution", diagonal="contracted", operands=(0, 1), bias=2,
           options=("stride", "padding", "output_padding", "groups", "dilation"), groups=6),
        _of("conv_transpose1d conv_transpose2d conv_transpose3d"),
    ),
    *_family(
        Op("", "general convolution", operands=(0, 1), bias=2,
           options=("stride", "padding", "dilation", "transposed", "output_padding", "groups"), groups=8),
        _of("convolution", diagonal="contracted"),
        _of("_convolution"),
    ),
    *_family(
        Op("", "attention", operands=(0, 1, 2)),
        _of("scaled_dot_product_attention"),
    ),
    *_family(
        Op("", "recurrent layer"),
        _of("lstm gru rnn_tanh rnn_relu"),
    ),
    *_family(
        Op("", "recurrent cell"),
        _of("lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell"),
    ),
]

_STATISTICS = [
    *_family(
        Op("", "normalisation"),
        _of("batch_norm _native_batch_norm_legit_no_training", diagonal="gathered", centre=3),
        _of("native_batch_norm cudnn_batch_norm instance_norm native_group_norm _fused_rms_norm _weight_norm "
            "_weight_norm_interface"),
        _of("group_norm", groups=1),
        _of("layer_norm native_layer_norm rms_norm", normalises=True),
    ),
    *_family(
        Op("", "softmax"),
        _of("softmax _softmax", relevance="softmax", before_loss=True),
        _of("_safe_softmax", relevance="softmax"),
        _of("log_softmax", relevance="general", before_loss=True),
        _of("_log_softmax", before_loss=True),
        _of("softmin"),
    ),
    *_family(
        Op("", "average pooling", relevance="sum", diagonal="slid"),
        _of("avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
            "_adaptive_avg_pool2d _adaptive_avg_pool3d"),
        _of("_adaptive_avg_pool1d", relevance=None, diagonal=None),
    ),
    *_family(
        Op("", "maximum pooling", relevance="maximum", diagonal="copied"),
        _of("max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
            "max_pool2d_with_indices max_pool3d_with_indices"),
        _of("max_pool1d_with_indices", relevance=None),
    ),
    *_family(
        Op("", "interpolation"),
        _of("upsample_nearest1d upsample_nearest2d upsample_nearest3d", relevance="movement", diagonal="copied"),
        _of("upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d", relevance="sum",
            diagonal="slid"),
        _of("upsample__nearest_exact1d upsample_nearest_exact2d _upsample_nearest_exact1d "
            "_upsample_nearest_exact2d _upsample_nearest_exact3d"),
        _of("_upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler", relevance="sum"),
    ),
    *_family(
        Op("", "maximum"),
        _of("amax amin", relevance="maximum", diagonal="gathered", lipschitz=1.0),
        _of("max min", relevance="maximum", diagonal="gathered"),
        _of("topk", relevance="movement", carries=True),
        _of("kthvalue median mode"),
        _of("argmax argmin argsort", discrete=True),
        _of("sort", relevance="movement", indices="read"),
    ),
    *_family(
        Op("", "reduction"),
        _of("sum", relevance="sum", diagonal="copied", carries=True),
        _of("nansum nanmean trace", relevance="sum"),
        _of("mean", relevance="sum", diagonal="gathered", normalises=True, carries=True),
        _of("var std var_mean std_mean", relevance="general", normalises=True),
        _of("prod logsumexp", relevance="general"),
        _of("all any count_nonzero", discrete=True),
    ),
    *_family(
        Op("", "distance", relevance="general"),
        _of("norm linalg_vector_norm cosine_similarity dist cdist"),
        _of("_cdist_forward", relevance=None),
    ),
    *_family(
        Op("", "cumulative"),
        _of("cumsum", relevance="sum", diagonal="copied"),
        _of("cumprod logcumsumexp", relevance="general"),
        _of("cummax cummin"),
        _of("diff", relevance="sum"),
    ),
    *_family(
        Op("", "fourier", relevance="sum"),
        _of("fft_fft fft_ifft fft_rfft fft_irfft view_as_real view_as_complex"),
    ),
]

_MOVEMENTS = [
    *_family(
        Op("", "movement", relevance="movement", diagonal="copied"),
        _of("view", lipschitz=1.0, sizes=1, rewritten="sizes", indices="moved", carries=True),
        _of("reshape", lipschitz=1.0, sizes=1, rewritten="sizes", shares="usually", indices="moved", carries=True),
        _of("_unsafe_view", lipschitz=1.0, sizes=1, rewritten="sizes", carries=True),
        _of("reshape_as ravel atleast_2d atleast_3d swapaxes tile tensor_split channel_shuffle unfold im2col "
            "tril triu"),
        _of("view_as numpy_T movedim mT expand_as narrow flip roll pixel_shuffle pixel_unshuffle", lipschitz=1.0),
        _of("flatten", lipschitz=1.0, shares="usually", indices="moved", carries=True),
        _of("unflatten", lipschitz=1.0, sizes=2, rewritten="unflatten"),
        _of("squeeze unsqueeze permute transpose select", lipschitz=1.0, indices="moved", carries=True),
        _of("atleast_1d rot90 unfold_copy diagonal diag_embed meshgrid view_copy squeeze_copy unsqueeze_copy "
            "expand_copy permute_copy transpose_copy select_copy slice_copy", diagonal=None),
        _of("t", lipschitz=1.0, indices="moved"),
        _of("swapdims unsafe_split unsafe_chunk unsafe_split_with_sizes", relevance=None),
        _of("adjoint matrix_H", relevance=None, diagonal=None),
        _of("expand", lipschitz=1.0, sizes=1, filled=True, rewritten="sizes", indices="moved", carries=True),
        _of("broadcast_to", lipschitz=1.0, sizes=1, filled=True, rewritten="sizes"),
        _of("repeat", lipschitz=1.0, sizes=1, filled=True, indices="moved"),
        _of("repeat_interleave", indices="moved"),
        _of("slice", lipschitz=1.0, rewritten="range", indices="moved", carries=True),
        _of("unbind", lipschitz=1.0, carries=True),
        _of("split chunk", lipschitz=1.0, rewritten="parts", carries=True),
        _of("split_with_sizes", lipschitz=1.0, rewritten="parts"),
        _of("getitem", diagonal=None, lipschitz=1.0, carries=True),
        _of("col2im", relevance="sum", diagonal=None),
    ),
    *_family(
        Op("", "joining", relevance="movement", diagonal="copied"),
        _of("cat", lipschitz=1.0, carries=True, aligned=True),
        _of("concat", lipschitz=1.0, aligned=True),
        _of("concatenate slice_scatter", aligned=True),
        _of("stack", lipschitz=1.0),
        _of("hstack vstack fill_diagonal", diagonal=None),
        _of("select_scatter"),
    ),
    *_family(
        Op("", "padding", relevance="movement", diagonal="copied"),
        _of("pad reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
            "replication_pad3d"),
        _of("constant_pad_nd", lipschitz=1.0),
    ),
    *_family(
        Op("", "copy", relevance="movement", diagonal="copied"),
        _of("clone alias _to_copy", lipschitz=1.0, indices="same", carries=True),
        _of("contiguous", lipschitz=1.0, shares="usually", indices="moved", carries=True),
        _of("detach", lipschitz=1.0, shares="sometimes", replay="identity", retraced=True, indices="same",
            carries=True),
        _of("lift_fresh", diagonal=None, retraced=True, indices="same"),
        _of("lift_fresh_copy", retraced=True, indices="same"),
        _of("to", lipschitz=1.0, shares="sometimes", indices="same", carries=True),
        _of("type_as", lipschitz=1.0, shares="sometimes", indices="moved", carries=True),
        _of("identity", lipschitz=1.0),
        _of("float", carries=True),
        _of("double"),
        _of("half cpu cuda real", diagonal=None),
        _of("detach_copy", relevance=None, diagonal=None, retraced=True),
        _of("requires_grad", relevance=None, diagonal=None),
    ),
    *_family(
        Op("", "dropout", relevance="movement", diagonal="gathered"),
        _of("dropout", shares="usually", carries=True),
        _of("native_dropout", carries=True),
        _of("feature_dropout alpha_dropout", shares="sometimes"),
        _of("feature_alpha_dropout"),
        _of("dropout1d dropout2d dropout3d bernoulli", relevance=None, diagonal=None),
    ),
    *_family(
        Op("", "indexing"),
        _of("index gather", relevance="movement", diagonal="copied", indices="read", carries=True),
        _of("_unsafe_index", diagonal="copied"),
        _of("index_select", relevance="movement", diagonal="copied", indices="read"),
        _of("take_along_dim index_put scatter masked_scatter", relevance="movement"),
        _of("_unsafe_index_put index_copy index_fill"),
        _of("index_add scatter_add scatter_reduce", relevance="sum"),
        _of("one_hot histc bincount", indices="read", discrete=True),
    ),
    *_family(
        Op("", "embedding"),
        _of("embedding", relevance="embedding", indices="read"),
        _of("embedding_bag _embedding_bag _embedding_bag_forward_only"),
    ),
]

_OTHERS = [
    *_family(
        Op("", "creation", relevance="constant"),
        _of("zeros ones full", sizes=0, filled=True),
        _of("empty rand randn", relevance=None, sizes=0, filled=True),
        _of("arange zeros_like ones_like full_like empty_like rand_like randn_like empty_permuted"),
        _of("scalar_tensor", relevance=None),
        _of("new_zeros new_ones", sizes=1, filled=True, rewritten="sizes"),
        _of("new_full new_empty", sizes=1, filled=True),
    ),
    *_family(
        Op("", "assertion", replay="skip", retraced=True),
        _of("_assert_tensor_metadata _assert_scalar _assert_async sym_constrain_range sym_constrain_range_for_size"),
    ),
]
# fmt: on

OPS = (*_ELEMENTWISE, *_PRODUCTS, *_STATISTICS, *_MOVEMENTS, *_OTHERS)
CATALOGUE: dict[str, Op] = {op.name: op for op in OPS}
"""Every op that something is known about, by name."""

_BY_PART = {
    "_assert": Op("", "assertion", retraced=True),
    "_guards_fn": Op("", "assertion", retraced=True),
    "sym_": Op("", "size", retraced=True),
    "conv": Op("", "other convolution", operands=(0, 1), bias=2),
}
"""Families that torch goes on adding to, by what is in the names of their ops."""


def known(name: str) -> Op:
    """The facts about an op by name; of the family "unknown" where the catalogue does not have it.

    >>> known("addmm").operands, known("addmm").bias, known("sym_size").family, known("svd").family
    ((1, 2), 0, 'size', 'unknown')
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    found = next((op for part, op in _BY_PART.items() if part in name), Op("", "unknown"))
    return replace(found, name=name)


def add_op(op: Op) -> None:
    """Add the facts about an op of another package, `namespace::name`; every reader looks them up when it meets the op.

    Raises:
        ValueError: the catalogue has it already.
    """
    if op.name in CATALOGUE:
        raise ValueError(f"The catalogue has the op {op.name!r} already.")
    CATALOGUE[op.name] = op


def op_of(node: fx.Node) -> Op:
    """The facts about the op of a node."""
    return known(op_name(node))


def names_of(*families: str, **facts: Any) -> tuple[str, ...]:
    """The names of all ops of some families, or of any, of which `facts` hold.

    Args:
        families: the families to choose from; all where none is named.
        facts: fields of `Op` and their values; a list offers several.

    Raises:
        ValueError: there is no such family or fact.

    >>> names_of("product", bias=0)
    ('addmm', 'baddbmm', 'addmv')
    """
    missing = [*(set(families) - FAMILIES.keys()), *(facts.keys() - {each.name for each in fields(Op)})]
    if missing:
        raise ValueError(f"There is no family or fact {missing[0]!r} in the catalogue.")

    def holds(op: Op, fact: str, value: Any) -> bool:
        return getattr(op, fact) in (value if isinstance(value, list) else [value])

    return tuple(
        op.name
        for op in CATALOGUE.values()
        if (not families or op.family in families) and all(holds(op, fact, value) for fact, value in facts.items())
    )


FAMILIES: Mapping[str, None] = dict.fromkeys(op.family for op in CATALOGUE.values())
"""All families, in the order of the catalogue."""
