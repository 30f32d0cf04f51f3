"""What the catalogue says of ops, against lists of them that were written down independently."""

from __future__ import annotations

import math

import pytest
import torch

from deadhead.cut.program import FILLED, GROUPED
from deadhead.graph.catalogue import CATALOGUE, FAMILIES, OPS, known, names_of
from deadhead.graph.recurrent import CELLS
from deadhead.graph.units.registry import NORMALISATIONS
from deadhead.graph.units.windows import CONVOLUTIONS
from deadhead.relevance.kinds import DESCRIBED


def names(text: str) -> set[str]:
    return set(text.split())


def test_an_op_is_said_once_and_has_a_family() -> None:
    assert len(OPS) == len(CATALOGUE) > 250
    assert all(op.family in FAMILIES and op.name == name for name, op in CATALOGUE.items())
    assert not any(name.endswith("_") for name in CATALOGUE), "in-place forms go by the name of the op"


def test_a_family_or_fact_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="'prodcut'"):
        names_of("prodcut")
    with pytest.raises(ValueError, match="'colour'"):
        names_of(colour="red")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("sym_size", "size"),
        ("_assert_something_new", "assertion"),
        ("svd", "unknown"),
        ("mine::conv", "other convolution"),
    ],
)
def test_names_that_are_not_listed(name: str, family: str) -> None:
    assert (known(name).family, known(name).name) == (family, name)
    assert name not in CATALOGUE


def test_what_a_replay_knows() -> None:
    assert set(names_of(shares=["usually", "sometimes"])) == names(
        "reshape contiguous flatten dropout to type_as feature_dropout alpha_dropout detach"
    )
    assert set(names_of(replay="skip")) == names(
        "_assert_tensor_metadata _assert_scalar _assert_async sym_constrain_range_for_size sym_constrain_range"
    )
    assert names_of(replay="identity") == ("detach",)


def test_what_labels_know_of_indices_and_statistics() -> None:
    assert set(NORMALISATIONS) == names("layer_norm native_layer_norm rms_norm mean var std var_mean std_mean")
    assert set(names_of(indices="moved")) == names(
        "view reshape flatten unsqueeze squeeze expand transpose permute t contiguous select slice repeat "
        "repeat_interleave type_as"
    )
    assert set(names_of(indices="same")) == names("lift_fresh_copy lift_fresh clone detach alias to _to_copy")
    assert set(names_of(indices="read")) == names("index index_select gather embedding one_hot histc bincount sort")


def test_convolutions_and_their_arguments() -> None:
    assert names_of("convolution") == CONVOLUTIONS == ("conv1d", "conv2d", "conv3d")
    assert names_of("transposed convolution") == ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
    assert names_of("general convolution") == ("convolution", "_convolution")
    assert set(names_of(matrix=True)) == names("linear mm addmm matmul")
    for family in ("convolution", "transposed convolution", "general convolution"):
        for name in names_of(family):
            packet = getattr(torch.ops.aten, name)
            schema = [each.name for each in getattr(packet, packet.overloads()[0])._schema.arguments]
            assert tuple(schema[3 : 3 + len(known(name).options)]) == known(name).options
            assert schema[known(name).groups or 0] == "groups"
            assert schema[known(name).bias or 0] == "bias"
    assert {op.family for op in OPS if op.options} == {
        "convolution", "transposed convolution", "general convolution",
    }  # fmt: skip


def test_products_their_operands_and_what_is_added() -> None:
    assert {name: known(name).bias for name in names_of("product")} == {
        **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot", "vdot", "linalg_matmul", "einsum")),
        **dict.fromkeys(("addmm", "baddbmm", "addmv"), 0),
        "linear": 2,
    }
    assert {name for name in names_of("product") if known(name).operands == (1, 2)} == names("addmm baddbmm addmv")
    assert {name for name in names_of("product") if not known(name).operands} == {"einsum"}
    assert names_of(turned=True) == ("linear",)
    assert set(names_of("grouped product")) == names("_grouped_mm transformers::grouped_mm_fallback")


def test_what_is_counted() -> None:
    assert set(names_of(shares="usually")) == names("reshape flatten contiguous dropout")
    assert names_of("attention") == ("scaled_dot_product_attention",)
    counted = names_of("product", "grouped product")
    assert set(counted) == names(
        "linear matmul mm bmm mv dot vdot linalg_matmul addmm baddbmm addmv einsum _grouped_mm "
        "transformers::grouped_mm_fallback"
    )


def test_every_recurrent_layer_and_cell_can_be_taken_apart() -> None:
    assert names_of("recurrent layer") == ("lstm", "gru", "rnn_tanh", "rnn_relu")
    assert set(names_of("recurrent cell")) == set(CELLS)


def test_how_second_derivatives_go_back() -> None:
    assert set(names_of(diagonal="gathered")) == names(
        "mean amax amin max min batch_norm _native_batch_norm_legit_no_training dropout feature_dropout alpha_dropout "
        "feature_alpha_dropout native_dropout"
    )
    assert set(names_of(diagonal="slid")) == names(
        "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
        "_adaptive_avg_pool2d _adaptive_avg_pool3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d "
        "upsample_trilinear3d"
    )
    assert set(names_of(diagonal="contracted")) == {
        *names_of("product", "convolution", "transposed convolution"), "convolution",
    }  # fmt: skip
    copied = names_of(diagonal="copied")
    families = {known(name).family for name in copied}
    assert len(copied) == 89
    assert families == {
        "movement", "joining", "padding", "copy", "indexing", "maximum pooling", "interpolation", "reduction",
        "cumulative",
    }  # fmt: skip
    assert set(names_of(sums=True)) == names("add sub rsub where maximum minimum fmax fmin copy")
    assert set(names_of(before_loss=True)) == names("softmax _softmax log_softmax _log_softmax")


def test_a_maximum_over_windows_copies_for_second_derivatives_and_is_a_maximum_for_relevance() -> None:
    assert (known("max_pool2d").diagonal, known("max_pool2d").relevance) == ("copied", "maximum")


def test_lipschitz_constants_that_are_numbers() -> None:
    assert {name: op.lipschitz for name, op in CATALOGUE.items() if op.lipschitz not in (None, 1)} == {
        "sigmoid": 0.25, "gelu": 1.13, "silu": 1.1, "mish": 1.09, "selu": 1.7581, "hardswish": 1.5,
        "hardsigmoid": 0.1667, "erf": 2 / math.sqrt(math.pi),
    }  # fmt: skip
    assert set(names_of("nonlinearity", "elementwise linear", "choice", lipschitz=1.0)) == names(
        "relu tanh relu6 hardtanh abs neg clamp clamp_min clamp_max sin cos atan log_sigmoid softshrink tanhshrink "
        "maximum minimum"
    )
    assert set(names_of("joining", "padding", lipschitz=1.0)) == names("cat concat stack constant_pad_nd")
    assert set(names_of("movement", "copy", "maximum", lipschitz=1.0)) == names(
        "view reshape _unsafe_view flatten unflatten squeeze unsqueeze view_as permute transpose t movedim numpy_T mT "
        "contiguous clone detach alias to _to_copy type_as identity slice narrow select split split_with_sizes chunk "
        "unbind getitem expand expand_as repeat broadcast_to flip roll pixel_shuffle pixel_unshuffle amax amin"
    )


def test_which_ops_carry_a_weighting_on_and_which_weigh() -> None:
    assert set(names_of(carries=True)) == names(
        "dropout to _to_copy type_as view reshape transpose permute unsqueeze squeeze getitem topk sum clone "
        "contiguous expand _unsafe_view float index gather slice select split flatten cat masked_fill mean "
        "native_dropout alias detach unbind chunk div"
    )
    assert set(names_of(weighs=True)) == names("matmul bmm mul einsum mm div")


def test_what_relevance_knows_of_functions_and_layouts() -> None:
    assert set(names_of(aligned=True)) == names("cat concat concatenate where maximum minimum fmax fmin slice_scatter")
    assert set(names_of(slopes="homogeneous")) == names("relu leaky_relu prelu rrelu abs")
    assert set(names_of(slopes="kinked")) == names(
        "relu6 hardtanh hardswish hardsigmoid clamp clamp_min clamp_max threshold softshrink hardshrink nan_to_num"
    )
    assert set(names_of(slopes="singular")) == names("rsqrt reciprocal sqrt pow log log2 log10 log1p asin acos tan")
    assert set(names_of("choice", sums=True)) == names("where maximum minimum fmax fmin")


@pytest.mark.parametrize(
    ("kind", "count"),
    [("movement", 108), ("sum", 33), ("constant", 15), ("nonlinearity", 46), ("maximum", 16), ("general", 14)],
)
def test_the_kinds_of_relevance(kind: str, count: int) -> None:
    assert len(names_of(relevance=kind)) == count


def test_the_small_kinds_of_relevance() -> None:
    assert set(names_of(relevance="softmax")) == names("softmax _softmax _safe_softmax")
    assert set(names_of(relevance="normalisation")) == names("rsqrt reciprocal")
    assert names_of(relevance="embedding") == ("embedding",)
    assert {op.relevance for op in OPS} - {None, "constant"} < set(DESCRIBED)


def test_which_numbers_of_a_program_a_cut_rewrites() -> None:
    assert {name: known(name).sizes for name in names_of(rewritten="sizes")} == {
        "view": 1, "reshape": 1, "_unsafe_view": 1, "expand": 1, "new_zeros": 1, "new_ones": 1, "broadcast_to": 1,
    }  # fmt: skip
    assert FILLED == {
        "expand": 1, "broadcast_to": 1, "repeat": 1, "zeros": 0, "ones": 0, "full": 0, "empty": 0, "rand": 0,
        "randn": 0, "new_zeros": 1, "new_ones": 1, "new_full": 1, "new_empty": 1,
    }  # fmt: skip
    grouped = {op.name: op.groups for op in OPS if op.groups is not None and op.family in GROUPED}
    assert grouped == {f"conv{kind}{rank}d": 6 for kind in ("", "_transpose") for rank in (1, 2, 3)} | {"group_norm": 1}
    assert names_of(rewritten="unflatten") == ("unflatten",)
    assert set(names_of(rewritten="parts")) == names("split split_with_sizes chunk")
    assert names_of(rewritten="range") == ("slice",)


def test_which_ops_may_stand_in_one_trace_and_not_in_another() -> None:
    parts = ("_assert", "sym_", "_guards_fn", "lift_fresh", "detach")
    asked = {*CATALOGUE, "sym_size", "sym_numel", "_guards_fn", "_assert_tensor_metadata", "sym_stride"}
    assert {name for name in asked if known(name).retraced} == {
        name for name in asked if any(part in name for part in parts)
    }
