"""Where an area's unknowns stand: every scalar once, equations beside their variables, the border last."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieflow.areas.layout import Layout


@st.composite
def layouts(draw: st.DrawFn, joint: bool = True) -> Layout:
    def size(most: int, least: int = 0) -> int:
        return draw(st.integers(least, most))

    nodes, roots = size(6, 1), size(3)
    widths = draw(st.lists(st.integers(1, 2), max_size=4))
    controls = iter(range(sum(widths)))
    return Layout(
        nodes=nodes,
        pairs=tuple(tuple(next(controls) for _ in range(width)) for width in widths),
        meters=size(3),
        roots=roots,
        ties=size(3),
        stores=size(5),
        joint=joint,
        given_nodes=roots or 3,
        unfed=np.array(sorted(draw(st.sets(st.integers(0, nodes - 1), max_size=2))), np.int64),
        real_first=tuple(draw(st.booleans()) for _ in range(roots)),
    )


either = st.one_of(layouts(), layouts(joint=False))


@given(either)
def test_every_scalar_of_the_system_stands_for_one_unknown_or_multiplier_or_for_nothing(layout: Layout) -> None:
    taken = np.concatenate([layout.at_x, layout.at_multiplier, layout.dummies])
    assert sorted(taken.tolist()) == list(range(2 * layout.blocks))
    assert len(layout.at_x) == layout.rows
    assert len(layout.at_multiplier) == layout.multipliers


@given(either)
def test_rows_by_name_cover_all_rows_one_after_the_other(layout: Layout) -> None:
    for slices, total in ((layout.x, layout.rows), (layout.multiplier, layout.multipliers)):
        rows = [row for part in slices.values() for row in range(part.start, part.stop)]
        assert rows == list(range(total))


@given(either)
def test_each_voltage_and_current_stands_beside_an_equation_of_the_same_node(layout: Layout) -> None:
    n = layout.nodes
    network = np.arange(4 * n)
    block = layout.at_x[layout.x["network"]] // 2
    partner = np.argsort(layout.at_multiplier[layout.multiplier["network"]] // 2)[np.argsort(np.argsort(block))]
    assert (partner % n == network % n).all()
    # At a node that no branch feeds V stands with the balance and I with I = 0, which is no equation of V.
    unfed = np.isin(network % n, layout.unfed)
    assert (partner[~unfed] == network[~unfed]).all()
    assert ((partner // n)[unfed] == (network // n ^ 1)[unfed]).all()


@given(either)
def test_controls_of_a_pair_share_a_block_and_no_others_do(layout: Layout) -> None:
    block = layout.at_x[layout.x["control"]] // 2
    assert len(set(block.tolist())) == len(layout.pairs)
    for pair in layout.pairs:
        assert len({int(block[k]) for k in pair}) == 1


@given(layouts())
def test_the_border_is_what_the_area_shares_in_the_order_of_its_messages(layout: Layout) -> None:
    x, multiplier = layout.x, layout.multiplier
    assert len(layout.shared) == 4 * (layout.roots + layout.ties) + layout.stores
    shared = layout.at[layout.shared]
    assert np.isin(shared // 2, layout.border).all()
    assert (2 * (layout.blocks - len(layout.border)) + layout.border_order).tolist() == shared.tolist()
    inner = np.setdiff1d(layout.at, shared)
    assert not np.isin(inner // 2, layout.border).any()
    assert layout.border.tolist() == list(range(layout.blocks - len(layout.border), layout.blocks))
    parts = (layout.at_x[x["root"]], layout.at_multiplier[multiplier["draw"]])
    parts += (layout.at_x[x["tie"]], layout.at_multiplier[multiplier["given"]])
    assert shared.tolist() == np.concatenate([*parts, layout.at_multiplier[multiplier["store"]]]).tolist()


@given(layouts(joint=False))
def test_an_area_by_itself_keeps_only_its_stored_energies(layout: Layout) -> None:
    assert layout.at[layout.shared].tolist() == layout.at_multiplier[layout.multiplier["store"]].tolist()
    assert layout.x["w"].stop - layout.x["w"].start == layout.roots + layout.ties


@given(layouts())
def test_rows_of_voltages_are_those_of_the_nodes_and_the_roots_are_the_areas_own(layout: Layout) -> None:
    first = layout.given_nodes
    nodes = np.arange(first + layout.nodes)
    re, im = layout.voltage(nodes)
    own = slice(first, None)
    assert re[own].tolist() == list(range(layout.nodes))
    assert im[own].tolist() == list(range(2 * layout.nodes, 3 * layout.nodes))
    assert [row.tolist() for row in layout.current(nodes[own])] == [
        (re[own] + layout.nodes).tolist(),
        (im[own] + layout.nodes).tolist(),
    ]
    root = layout.x["root"]
    at_roots = np.concatenate([re[:first], im[:first]])
    assert at_roots.tolist() == (list(range(root.start, root.stop)) if layout.roots else [-1] * 2 * first)


@pytest.mark.parametrize("stores", [0, 1, 2, 5])
def test_an_odd_number_of_stores_leaves_one_scalar_that_stands_for_nothing(stores: int) -> None:
    layout = Layout(2, ((0,), (1, 2)), 0, 0, 0, stores, True, 3, np.zeros(0, np.int64))
    assert len(layout.dummies) == 1 + stores % 2
