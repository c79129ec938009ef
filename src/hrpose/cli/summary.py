"""`hrpose summary`."""

from typing import Annotated

import typer

from hrpose.cli.options import InputSize, parse_input_size


def summary(
    network: Annotated[
        str, typer.Argument(help="A network (w32, w48), or weights by name (w16-small) or file.")
    ],
    input_size: InputSize = None,
) -> None:
    """Parameters and multiply-accumulates of each stage of a network, for one crop."""
    from rich.console import Console
    from rich.table import Column, Table

    from hrpose.network import NETWORKS, HRNet
    from hrpose.network.summary import summarise
    from hrpose.passport import Passport
    from hrpose.runtime.session import open_session
    from hrpose.weights import EMBEDDED, find

    # `w16-small` is both: the weights say what they are used with.
    only_network = network in NETWORKS and network not in EMBEDDED
    passport = (
        Passport(network, (192, 256)) if only_network else open_session(find(network)).passport
    )
    input_wh = parse_input_size(input_size) or passport.input_wh
    model = HRNet.from_name(passport.network, len(passport.skeleton))
    stages = summarise(model, input_wh)
    table = Table(
        "stage",
        Column("parameters", justify="right"),
        Column("GMACs", justify="right"),
        title=f"{passport.network}: {model.num_keypoints} keypoints, {input_wh[0]}x{input_wh[1]}",
    )
    for cost in stages:
        table.add_row(cost.stage, f"{cost.parameters:,}", f"{cost.macs / 1e9:.3f}")
    table.add_section()
    parameters, macs = sum(c.parameters for c in stages), sum(c.macs for c in stages)
    table.add_row("all", f"{parameters:,}", f"{macs / 1e9:.3f}")
    Console().print(table)
