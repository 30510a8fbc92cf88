"""Converts checkpoints of the Shunted Transformer, PyTorch's and others', to Orbax, and back.

    python convert_weights.py ckpt_T.pth out/
    python convert_weights.py --to-torch out/ ckpt_T.pth
    python convert_weights.py --to-torch --ema runs/t/ averaged.pth

PyTorch is needed to write a .pth, and for nothing else. What was converted is loaded with
model, variables = shunted_jax.load_pretrained("out/")
"""

import argparse
import sys
from collections.abc import Sequence

from shunted_jax.convert.command import convert_file, export_file
from shunted_jax.errors import RunError, UserError
from shunted_jax.models import list_models


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "source", help="a file of PyTorch, Paddle or safetensors; a checkpoint with --to-torch"
    )
    parser.add_argument(
        "out", help="the checkpoint's folder; a .pth or .safetensors with --to-torch"
    )
    parser.add_argument("--to-torch", action="store_true", help="from a checkpoint to PyTorch")
    parser.add_argument(
        "--ema", action="store_true", help="with --to-torch: the moving average of the parameters"
    )
    parser.add_argument("--model", choices=list_models(), help="the variant that it must be")
    parser.add_argument(
        "--num-heads",
        type=int,
        nargs="+",
        metavar="N",
        help="attention heads of each stage, which the tensors do not show",
    )
    parser.add_argument(
        "--from",
        dest="from_key",
        metavar="KEY",
        help="what the state dict stands under, where a file holds several",
    )
    parser.add_argument("--prefix", help="of the network's tensors, where a file holds several")
    parser.add_argument("--drop-head", action="store_true", help="leave the classifier out")
    parser.add_argument(
        "--ignore-unexpected", action="store_true", help="leave out what is not the network's"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is at OUT")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    arguments = vars(parse(argv))
    source, out = arguments.pop("source"), arguments.pop("out")
    overwrite, to_torch, ema = (arguments.pop(name) for name in ("overwrite", "to_torch", "ema"))
    try:
        if to_torch:
            if any(arguments.values()):
                raise UserError(
                    "--to-torch takes a checkpoint as it is: leave the other options out"
                )
            print(export_file(source, out, ema=ema, overwrite=overwrite))
        elif ema:
            raise UserError("--ema is of a run's checkpoint: give it with --to-torch")
        else:
            print(convert_file(source, out, overwrite=overwrite, **arguments))
    except (UserError, RunError) as error:
        print(f"convert_weights.py: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
