"""Converts checkpoints of the Shunted Transformer, PyTorch's and others', to Orbax, and back.

    python convert_weights.py ckpt_T.pth out/
    python convert_weights.py hf://ORG/REPO out/
    python convert_weights.py --to-torch out/ ckpt_T.pth
    python convert_weights.py --to-torch --ema runs/t/ averaged.pth
    python convert_weights.py --to-hub-folder out/ to_share/

PyTorch is needed to write a .pth, and for nothing else. What was converted is loaded with
model, variables = shunted_jax.load_pretrained("out/")
"""

import argparse
import sys
from collections.abc import Sequence

from shunted_jax.commands.convert import convert_file
from shunted_jax.commands.export import export_file, export_folder
from shunted_jax.errors import RunError, UserError
from shunted_jax.models import list_models
from shunted_jax.platforms import check_platforms
from shunted_jax.resources import refusal
from shunted_jax.terminal import print_any_name


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "source",
        help="a file of PyTorch, Paddle or safetensors, a folder with such, or "
        "hf://ORG/REPO[@REVISION]; a checkpoint with --to-torch and --to-hub-folder",
    )
    parser.add_argument(
        "out",
        help="the checkpoint's folder; a .pth, .safetensors or .pdparams file with --to-torch; a "
        "folder to share with --to-hub-folder",
    )
    parser.add_argument("--to-torch", action="store_true", help="from a checkpoint to PyTorch")
    parser.add_argument(
        "--to-hub-folder",
        action="store_true",
        help="from a checkpoint to a folder to share: safetensors, config.json, README.md",
    )
    parser.add_argument(
        "--ema",
        action="store_true",
        help="with these two: the moving average of the parameters",
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
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare the conversion with PyTorch on two photographs, and write nothing if it "
        "differs",
    )
    parser.add_argument(
        "--check-on",
        action="append",
        metavar="IMAGE",
        help="the same on this photograph; may be given several times",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is at OUT")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    print_any_name()
    arguments = vars(parse(argv))
    source, out = arguments.pop("source"), arguments.pop("out")
    overwrite, to_torch, to_hub_folder, ema = (
        arguments.pop(name) for name in ("overwrite", "to_torch", "to_hub_folder", "ema")
    )
    try:
        check_platforms()
        if to_torch or to_hub_folder:
            option = "--to-torch" if to_torch else "--to-hub-folder"
            if any(arguments.values()) or (to_torch and to_hub_folder):
                raise UserError(
                    f"{option} takes a checkpoint as it is: leave the other options out"
                )
            export = export_file if to_torch else export_folder
            print(export(source, out, ema=ema, overwrite=overwrite))
        elif ema:
            raise UserError(
                "--ema is of a run's checkpoint: give it with --to-torch or --to-hub-folder"
            )
        else:
            if arguments.pop("check") and arguments["check_on"] is None:
                arguments["check_on"] = []
            print(convert_file(source, out, overwrite=overwrite, **arguments))
    except OSError as error:
        if (refused := refusal(error)) is None:
            raise
        print(f"convert_weights.py: {refused}", file=sys.stderr)
        return 1
    except (UserError, RunError) as error:
        print(f"convert_weights.py: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        print("convert_weights.py: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
